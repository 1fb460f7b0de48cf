"""A writer killed with SIGKILL: what was acknowledged is there, and what is there is whole."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.storage.event_log import Append, Appended, LogRecorder
from ledger.storage.merkle import Frontier, leaf_hash
from ledger.storage.open_recorder import open_recorder
from tests.support.stored_events import stored_event

ROUNDS = 6


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Name an empty log in a real store."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres_url")
    else:
        yield f"sqlite:///{tmp_path / 'ledger.sqlite'}"


def _write_until_killed(url: str, seed: int) -> int:
    """Give the last position that the writer acknowledged before it was killed."""
    rng = random.Random(seed)
    command = [sys.executable, "-m", "tests.integration.storage.writer_of_a_log", url, str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for _ in range(rng.randint(1, 30)):
            acknowledged = int(writer.stdout.readline())
        # The writer is somewhere in its next appends by now.
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
    assert writer.returncode == -signal.SIGKILL
    if url.startswith("postgresql"):
        _end_other_sessions(url)
    return int(rest[-1]) if rest else acknowledged


def _end_other_sessions(url: str) -> None:
    """Return when the session of the killed writer has ended: it may still have been at work."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def _check(log: LogRecorder, acknowledged: int) -> None:
    head = log.head()
    assert head.position >= acknowledged
    entries = log.read(1, head.position + 10)
    assert [entry.position for entry in entries] == list(range(1, head.position + 1))
    root = Frontier().append(leaf_hash(entry.plain) for entry in entries).root()
    assert head.root == root == log.root_at(head.position)
    [tracked] = log.tracked("bravo")
    assert tracked.position == head.position
    streams = {entry.originator_id for entry in entries}
    digests = [f"{stream.int:064x}" for stream in streams]
    places = log.locate_blobs(digests)
    # Each append has its blob, and its number of events is written there: none is there in part.
    assert sum(place.length_bytes for place in places.values()) == head.position
    assert len(places) == len(streams)


def test_kill_leaves_whole_appends_and_loses_none_that_was_acknowledged(url: str) -> None:
    for seed in range(ROUNDS):
        acknowledged = _write_until_killed(url, seed)

        log = open_recorder(url)
        _check(log, acknowledged)
        log.close()


def test_log_of_a_killed_writer_takes_new_appends(url: str) -> None:
    _write_until_killed(url, ROUNDS)
    log = open_recorder(url)
    before = log.head().position

    [result] = log.commit([Append([stored_event(10**6, 1)])])

    assert isinstance(result, Appended)
    assert result.first_position == before + 1
    log.close()
