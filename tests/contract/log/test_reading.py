"""What every adapter promises of reading: commit order, exact bounds, whole streams."""

from dataclasses import replace
from uuid import UUID

import pytest

from ledger.storage.event_log import Append, BlobLocation, LogRecorder
from tests.support.stored_events import stored_event, stored_events, stream_id


@pytest.fixture
def ten(log: LogRecorder) -> LogRecorder:
    """Give a log of ten events."""
    log.commit([Append(stored_events(1, range(1, 11)))])
    return log


@pytest.mark.parametrize(
    ("start", "limit", "stop", "positions"),
    [
        (1, 3, None, [1, 2, 3]),
        (9, 10, None, [9, 10]),
        (4, 10, 6, [4, 5, 6]),
        (4, 2, 6, [4, 5]),
        (11, 10, None, []),
        (5, 10, 4, []),
    ],
)
def test_page_has_exactly_its_bounds(
    ten: LogRecorder, start: int, limit: int, stop: int | None, positions: list[int]
) -> None:
    assert [entry.position for entry in ten.read(start, limit, stop)] == positions


def test_streams_come_in_the_order_of_their_versions(log: LogRecorder) -> None:
    # A stream's later events may be taken in before its earlier ones: a resent parcel.
    log.commit([Append([stored_event(1, 2), stored_event(2, 1), stored_event(1, 1)])])

    streams = log.read_streams([stream_id(1), stream_id(2)])

    assert {s: [e.originator_version for e in entries] for s, entries in streams.items()} == {
        stream_id(1): [1, 2],
        stream_id(2): [1],
    }


def test_absent_streams_are_left_out(ten: LogRecorder) -> None:
    assert set(ten.read_streams([stream_id(1), stream_id(99)])) == {stream_id(1)}
    assert ten.read_streams([]) == {}


def test_more_streams_than_one_query_takes_are_all_read(log: LogRecorder) -> None:
    log.commit([Append([stored_event(stream, 1) for stream in range(1, 1201)])])

    streams = log.read_streams([stream_id(stream) for stream in range(1, 1201)])

    assert len(streams) == 1200


def test_stream_can_be_read_in_part_and_backwards(ten: LogRecorder) -> None:
    def versions(**bounds: int) -> list[int]:
        found = ten.select_events(stream_id(1), **bounds)  # type: ignore[arg-type]
        return [event.originator_version for event in found]

    assert versions(gt=3, lte=6) == [4, 5, 6]
    assert versions(desc=True, limit=2) == [10, 9]
    assert versions(limit=0) == []


def test_notifications_of_some_topics_fill_their_limit_across_pages(log: LogRecorder) -> None:
    events = stored_events(1, range(1, 301))
    for event in events[::150]:
        object.__setattr__(event, "topic", "rare")
    log.commit([Append(events)])

    found = log.select_notifications(1, 2, topics=["rare"])

    assert [notification.id for notification in found] == [1, 151]


def test_start_of_notifications_can_be_exclusive(ten: LogRecorder) -> None:
    found = ten.select_notifications(3, 2, inclusive_of_start=False)

    assert [notification.id for notification in found] == [4, 5]


def test_blob_is_found_where_its_append_said(log: LogRecorder) -> None:
    here = BlobLocation("a" * 64, "pack-1", 0, 10)
    there = BlobLocation("b" * 64, "pack-1", 10, 5)
    log.commit([Append([stored_event(1, 1)], blob_locations=[here, there])])

    found = log.locate_blobs(["a" * 64, "c" * 64, "b" * 64])

    assert found == {"a" * 64: here, "b" * 64: there}


def test_blob_that_two_origins_bring_at_once_is_placed_once(log: LogRecorder) -> None:
    places = [BlobLocation("a" * 64, pack, 0, 10) for pack in ("pack-1", "pack-2")]

    results = log.commit(
        [
            Append([stored_event(stream, 1)], blob_locations=[place])
            for stream, place in enumerate(places)
        ]
    )

    assert not [result for result in results if isinstance(result, Exception)]
    assert log.locate_blobs(["a" * 64])["a" * 64] in places


def test_blob_that_comes_again_is_found_at_its_newest_place(log: LogRecorder) -> None:
    for version, pack in ((1, "pack-1"), (2, "pack-2")):
        place = BlobLocation("a" * 64, pack, 0, 10)
        log.commit([Append([stored_event(1, version)], blob_locations=[place])])

    assert log.locate_blobs(["a" * 64])["a" * 64].pack == "pack-2"


def test_new_incarnation_keeps_events_and_positions(ten: LogRecorder) -> None:
    before, incarnation = ten.head(), UUID(int=77)

    head = ten.start_incarnation(incarnation)

    assert head.incarnation == incarnation != before.incarnation
    assert (head.position, head.root) == (before.position, before.root)
    assert ten.commit([Append([stored_event(2, 1)])])[0].head.incarnation == incarnation  # type: ignore[union-attr]


def test_topics_are_read_within_bounds_and_in_order(log: LogRecorder) -> None:
    topics = ["call-received", "pin-changed", "call-received", "mailbox-rehomed", "pin-changed"]
    events = [replace(stored_event(1, n), topic=topic) for n, topic in enumerate(topics, 1)]
    log.commit([Append(events)])
    wanted = ["pin-changed", "mailbox-rehomed"]

    assert [e.position for e in log.read_topics(wanted, 1, 5)] == [2, 4, 5]
    assert [e.position for e in log.read_topics(wanted, 3, 4)] == [4]
    assert [e.plain for e in log.read_topics(wanted, 2, 2)] == [events[1].state]
    assert log.read_topics(wanted, 6, 9) == []
    assert log.read_topics([], 1, 5) == []
