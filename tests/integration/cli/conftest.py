"""A program to run, a fresh server's directory, and one pair of which one server is up."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.configuration import load_configuration
from tests.support.command_line import CommandLine
from vmledger.cluster import write_cluster
from vmledger.demo.processes import ServerProcess, free_ports


@pytest.fixture
def vmledger(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def fresh(tmp_path: Path) -> CommandLine:
    """A server that was made and never ran."""
    line = CommandLine(tmp_path, tmp_path / "alpha" / "vmledger.toml")
    line("init", "alpha", "--server", "alpha", "--extension", "1000-1999")
    return line


@dataclass(frozen=True)
class Running:
    """Alpha is up; bravo, home to 2000-2999, is not."""

    vmledger: CommandLine
    server: ServerProcess


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("running")
    homes = {"alpha": ["1000-1999"], "bravo": ["2000-2999"]}
    path, _ = write_cluster(folder, list(homes), homes, free_ports(list(homes)))
    server = ServerProcess(load_configuration(path), path, folder / "alpha.log")
    server.start()
    try:
        server.wait_until_ready()
        yield Running(CommandLine(folder, path), server)
    finally:
        server.kill()
