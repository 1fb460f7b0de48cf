"""The file systems under contract: this machine's, and the simulated one."""

import random
from pathlib import Path

import pytest

from ledger.storage.files import Files, SystemFiles
from tests.simulation.disk import Disk, VirtualFiles


@pytest.fixture(params=["system", "virtual"])
def files(request: pytest.FixtureRequest) -> Files:
    if request.param == "system":
        return SystemFiles()
    return VirtualFiles(Disk(random.Random(1)), now_s=lambda: 1_000.0)


@pytest.fixture
def folder(files: Files, tmp_path: Path) -> Path:
    """Give an empty folder of this file system."""
    path = tmp_path / "folder"
    files.make_directory(path)
    return path
