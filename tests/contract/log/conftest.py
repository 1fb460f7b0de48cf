"""Every adapter of the log, for the suite that they all must pass."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from ledger.storage.event_log import LogRecorder
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.open_recorder import open_recorder

OpenLog = Callable[[], LogRecorder]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    """Name the adapter under test."""
    return request.param


@pytest.fixture
def reopen(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLog]:
    """Open the one log of this test, each time anew: as another process would."""
    opened: list[LogRecorder] = []
    memory = MemoryLogRecorder(uuid4())
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    if store == "postgres":
        url = request.getfixturevalue("postgres_url")

    def open_log() -> LogRecorder:
        if store == "memory":
            return MemoryLogRecorder(image=memory.image)
        opened.append(open_recorder(url))
        return opened[-1]

    yield open_log
    for recorder in opened:
        recorder.close()


@pytest.fixture
def log(reopen: OpenLog) -> LogRecorder:
    """Give an empty log."""
    return reopen()
