"""What every adapter promises of an append: all or nothing, in order, and only its own failure."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from eventsourcing.persistence import IntegrityError

from ledger.storage.event_log import Append, Appended, LogRecorder
from tests.support.stored_events import stored_event, stored_events, stream_id


def _append(log: LogRecorder, append: Append) -> Appended:
    [result] = log.commit([append])
    if isinstance(result, Exception):
        raise result
    return result


def test_first_event_gets_position_one(log: LogRecorder) -> None:
    done = _append(log, Append(stored_events(1, range(1, 4))))

    assert (done.first_position, done.last_position) == (1, 3)
    assert [entry.position for entry in log.read(1, 10)] == [1, 2, 3]


def test_appends_of_one_group_follow_each_other_without_a_gap(log: LogRecorder) -> None:
    results = log.commit([Append(stored_events(stream, range(1, 3))) for stream in (1, 2, 3)])

    spans = [(r.first_position, r.last_position) for r in results if isinstance(r, Appended)]
    assert spans == [(1, 2), (3, 4), (5, 6)]


def test_appends_that_belong_together_are_committed_together_or_not_at_all(
    log: LogRecorder,
) -> None:
    _append(log, Append([stored_event(2, 1)]))

    with pytest.raises(IntegrityError):
        log.commit_whole([Append([stored_event(stream, 1)]) for stream in (1, 2, 3)])
    assert log.head().position == 1

    log.commit_whole([Append([stored_event(stream, 1)]) for stream in (1, 3)])
    assert [entry.originator_id for entry in log.read(2, 9)] == [stream_id(1), stream_id(3)]


def test_append_without_events_takes_no_position(log: LogRecorder) -> None:
    _append(log, Append([stored_event(1, 1)]))

    done = _append(log, Append([]))

    assert (done.first_position, done.last_position) == (2, 1)
    assert log.head().position == 1


def test_what_was_appended_is_read_back_byte_for_byte(log: LogRecorder) -> None:
    event = stored_event(1, 1, "Grüße")

    _append(log, Append([event]))

    [entry] = log.read(1, 1)
    assert (entry.originator_id, entry.originator_version) == (stream_id(1), 1)
    assert (entry.topic, entry.plain) == ("test-event", event.state)
    assert (entry.origin, entry.origin_position) == (None, None)


def test_log_opened_anew_holds_what_was_appended(reopen: Callable[[], LogRecorder]) -> None:
    _append(reopen(), Append(stored_events(1, range(1, 5))))

    again = reopen()

    assert [entry.originator_version for entry in again.read(1, 10)] == [1, 2, 3, 4]
    assert again.head().position == 4


def test_second_event_of_a_place_is_refused_and_nothing_of_its_append_stays(
    log: LogRecorder,
) -> None:
    _append(log, Append([stored_event(1, 1)]))
    before = log.head()

    [result] = log.commit([Append([stored_event(2, 1), stored_event(1, 1, "other")])])

    assert isinstance(result, IntegrityError)
    assert log.head() == before
    assert [entry.plain for entry in log.read(1, 10)] == [stored_event(1, 1).state]


def test_clash_with_the_log_fails_only_its_own_caller(log: LogRecorder) -> None:
    _append(log, Append([stored_event(1, 1)]))

    first, clash, last = log.commit(
        [Append([stored_event(2, 1)]), Append([stored_event(1, 1)]), Append([stored_event(3, 1)])]
    )

    assert isinstance(clash, IntegrityError)
    assert isinstance(first, Appended)
    assert isinstance(last, Appended)
    assert (first.first_position, last.first_position) == (2, 3)


def test_of_two_that_clash_in_one_group_the_first_wins(log: LogRecorder) -> None:
    first, second = log.commit(
        [Append([stored_event(1, 1, "a")]), Append([stored_event(1, 1, "b")])]
    )

    assert isinstance(first, Appended)
    assert isinstance(second, IntegrityError)
    assert [entry.plain for entry in log.read(1, 10)] == [stored_event(1, 1, "a").state]


def test_append_that_waits_for_the_loser_of_a_clash_may_still_win(log: LogRecorder) -> None:
    _append(log, Append([stored_event(1, 1)]))

    loser, winner = log.commit(
        [
            Append([stored_event(1, 1), stored_event(2, 1, "loser")]),
            Append([stored_event(2, 1, "winner")]),
        ]
    )

    assert isinstance(loser, IntegrityError)
    assert isinstance(winner, Appended)
    assert log.read(2, 1)[0].plain == stored_event(2, 1, "winner").state


def test_append_that_clashes_with_itself_is_refused(log: LogRecorder) -> None:
    [result] = log.commit([Append([stored_event(1, 1), stored_event(1, 1)])])

    assert isinstance(result, IntegrityError)
    assert log.head().position == 0


def test_head_told_to_each_caller_is_that_of_the_whole_group(log: LogRecorder) -> None:
    results = log.commit([Append([stored_event(stream, 1)]) for stream in (1, 2)])

    assert [r.head for r in results if isinstance(r, Appended)] == [log.head(), log.head()]


def test_events_of_another_server_keep_where_they_stood_there(log: LogRecorder) -> None:
    events = [*stored_events(1, range(1, 3)), stored_event(2, 1)]

    _append(log, Append(events, origin="bravo", origin_positions=(7, 9)))

    assert [(e.origin, e.origin_position) for e in log.read(1, 3)] == [
        ("bravo", 7),
        ("bravo", 9),
        (None, None),
    ]


def test_two_recorders_of_one_log_give_each_position_once(
    reopen: Callable[[], LogRecorder], store: str
) -> None:
    recorders = [reopen()] * 2 if store == "memory" else [reopen(), reopen()]
    each = 30

    def append_all(number: int) -> list[int]:
        return [
            _append(recorders[number], Append([stored_event(number, v)])).first_position
            for v in range(1, each + 1)
        ]

    with ThreadPoolExecutor(2) as pool:
        positions = [p for part in pool.map(append_all, (0, 1)) for p in part]

    assert sorted(positions) == list(range(1, 2 * each + 1))
    assert [e.position for e in recorders[0].read(1, 100)] == list(range(1, 2 * each + 1))
    assert recorders[0].head() == recorders[1].head()


def test_group_larger_than_a_page_of_parameters_is_one_append(log: LogRecorder) -> None:
    done = _append(log, Append(stored_events(1, range(1, 2001))))

    assert done.last_position == 2000
    assert len(log.read(1, 5000)) == 2000


@pytest.mark.parametrize("state", [b"", b"\x00\xff", bytes(range(256)) * 40])
def test_any_bytes_can_be_an_events_state(log: LogRecorder, state: bytes) -> None:
    event = stored_event(1, 1)
    object.__setattr__(event, "state", state)

    _append(log, Append([event]))

    assert log.read(1, 1)[0].plain == state
