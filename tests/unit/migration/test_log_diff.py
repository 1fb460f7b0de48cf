"""Comparing two logs finds every event on which they do not agree, and only those."""

import asyncio
from collections.abc import Iterator
from uuid import UUID

import pytest

from ledger import events as e
from ledger.migration import log_diff, log_stretches
from ledger.migration.log_diff import LogDiff, compare_logs
from ledger.migration.log_stretches import read_stretch
from ledger.migration.wire import LogRequest
from ledger.storage.arrivals import Arrival
from ledger.storage.event_log import Append, LogEntry
from ledger.storage.mapper import to_stored_event
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.merkle import leaf_hash
from tests.support.histories import History


class Bravo:
    """Answers as bravo does, from its log, without a network."""

    peer = "bravo"

    def __init__(self, recorder: MemoryLogRecorder) -> None:
        self.recorder = recorder
        self.asked = 0

    async def log(self, this_server: str, after: int, stop: int = 0):
        self.asked += 1
        request = LogRequest(
            origin=this_server, home="bravo", after_position=after, stop_position=stop
        )
        return read_stretch(self.recorder, "bravo", this_server, request)


def take_in(log: MemoryLogRecorder, origin: str, entries: list[LogEntry], number: int = 1) -> None:
    """Commit events of another server, and one of this server's own behind them."""
    stored = [to_stored_event(e.decode(entry.plain)) for entry in entries]
    positions = [entry.position for entry in entries]
    (done,) = log.commit([Append(stored, origin=origin, origin_positions=positions)])
    assert not isinstance(done, Exception)


def arrivals(log: MemoryLogRecorder, origin: str) -> Iterator[Arrival]:
    found = [entry for entry in log.read(1, 100_000) if entry.origin == origin]
    for x in sorted(found, key=lambda entry: entry.origin_position or 0):
        yield Arrival(
            x.origin_position or 0, x.position, x.originator_id, x.originator_version, x.topic,
            leaf_hash(x.plain),
        )  # fmt: skip


def compare(alpha: MemoryLogRecorder, bravo: MemoryLogRecorder) -> LogDiff:
    client = Bravo(bravo)
    return asyncio.run(
        compare_logs(client, alpha, "alpha", lambda: arrivals(alpha, "bravo"))  # type: ignore[arg-type]
    )


def call_of(history: History, call_id: UUID, until: int | None = None) -> list[LogEntry]:
    return history.log.read_streams([call_id])[call_id][:until]


@pytest.fixture
def logs() -> tuple[History, History]:
    """Three messages of alpha's that bravo has and acknowledged, and two the other way."""
    alpha, bravo = History("alpha"), History("bravo", seed=2)
    for origin, home, count in ((alpha, bravo, 3), (bravo, alpha, 2)):
        for _ in range(count):
            taken = origin.call("2001", home=home.server, taken_by=origin.server)
            take_in(home.log, origin.server, call_of(origin, taken.call_id))
            origin.migrate(taken)
    return alpha, bravo


def change(log: MemoryLogRecorder, position: int) -> None:
    entry = log.image.entries[position - 1]
    plain = entry.plain.replace(b"2026-01-01", b"2026-01-02")
    assert plain != entry.plain
    changed = LogEntry(
        entry.position, entry.originator_id, entry.originator_version, entry.topic, plain,
        entry.origin, entry.origin_position,
    )  # fmt: skip
    log.image.entries[position - 1] = changed
    stream = log.image.streams[entry.originator_id]
    stream[stream.index(entry)] = changed


def named(found: LogDiff) -> list[tuple[str, str, int]]:
    return [(one.kind.value, one.origin, one.origin_position) for one in found.differences]


def position_in(log: MemoryLogRecorder, origin: str | None) -> int:
    """Give the position of an event in the midst of those of this origin."""
    found = [x.position for x in log.read(1, 1000) if x.origin == origin]
    return found[len(found) // 2]


def test_logs_that_agree_have_no_difference(logs):
    found = compare(logs[0].log, logs[1].log)
    assert named(found) == []
    assert found.is_same
    assert found.taken_here > 0 < found.taken_there
    assert found.acknowledged == 5


@pytest.mark.parametrize("where", ["alpha", "bravo"])
def test_event_that_was_changed_where_it_was_taken_in_is_named(logs, where):
    log, origin = (logs[0].log, "bravo") if where == "alpha" else (logs[1].log, "alpha")
    position = position_in(log, origin)
    change(log, position)
    found = compare(logs[0].log, logs[1].log)
    assert named(found) == [("disagree", origin, log.read(position, 1)[0].origin_position)]
    assert found.differences[0].taken_position == position


def test_event_that_was_changed_where_it_was_recorded_is_named(logs):
    alpha, bravo = logs[0].log, logs[1].log
    shipped = next(x for x in bravo.read(1, 1000) if x.origin == "alpha")
    change(alpha, shipped.origin_position)
    assert named(compare(alpha, bravo)) == [("disagree", "alpha", shipped.origin_position)]


def test_message_that_was_acknowledged_and_is_not_there_is_named_by_its_origin(logs):
    alpha, _ = logs
    found = compare(alpha.log, MemoryLogRecorder(UUID(int=9)))
    stored = [
        x.position for x in alpha.log.read(1, 1000) if x.topic == "message-stored" and not x.origin
    ]
    there = [x for x in named(found) if x[1] == "alpha"]
    assert there == [("missing-there", "alpha", position) for position in stored]


def test_event_that_the_other_recorded_and_this_log_took_in_is_missed_there(logs):
    alpha, bravo = logs
    image = bravo.log.image.copy()
    last = max(x.origin_position or 0 for x in alpha.log.read(1, 1000) if x.origin == "bravo")
    image.entries = image.entries[: last - 1]
    image.head = type(image.head)(image.head.incarnation, image.frontiers[last - 1])
    found = compare(alpha.log, MemoryLogRecorder(image=image))
    assert ("missing-there", "bravo", last) in named(found)


def test_message_that_this_log_acknowledged_and_lacks_is_named(logs):
    _, bravo = logs
    found = compare(MemoryLogRecorder(UUID(int=9)), bravo.log)
    stored = [
        x.position for x in bravo.log.read(1, 1000) if x.topic == "message-stored" and not x.origin
    ]
    assert [x for x in named(found) if x[1] == "bravo"] == [
        ("missing-here", "bravo", position) for position in stored
    ]
    assert {x[0] for x in named(found) if x[1] == "alpha"} == {"missing-here"}


def test_long_logs_are_compared_in_stretches_with_the_same_outcome(logs, monkeypatch):
    alpha, bravo = logs
    position = position_in(bravo.log, "alpha")
    change(bravo.log, position)
    at_once = compare(alpha.log, bravo.log)
    monkeypatch.setattr(log_stretches, "STRETCH_EVENTS", 3)
    monkeypatch.setattr(log_diff, "STRETCH_EVENTS", 3)
    assert compare(alpha.log, bravo.log) == at_once
