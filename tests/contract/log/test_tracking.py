"""What every adapter promises of tracking: committed with its events, and never out of step."""

from collections.abc import Callable
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.storage.event_log import (
    Append,
    Appended,
    LogRecorder,
    PeerTracking,
    StaleTracking,
    TrackedOrigin,
    tracking_name,
)
from tests.support.stored_events import stored_event

FIRST, SECOND = UUID(int=1), UUID(int=2)


def _tracking(position: int, expected: int = 0, incarnation: UUID = FIRST) -> PeerTracking:
    name = tracking_name("bravo", incarnation)
    return PeerTracking(name, position, expected=expected, root=bytes([position]) * 32)


def test_tracked_position_and_root_come_with_the_events(
    reopen: Callable[[], LogRecorder],
) -> None:
    reopen().commit([Append([stored_event(1, 1)], tracking=_tracking(5))])

    assert reopen().tracked("bravo") == [TrackedOrigin("bravo", FIRST, 5, b"\x05" * 32)]


def test_append_that_expects_another_position_is_stale_and_leaves_nothing(log: LogRecorder) -> None:
    log.commit([Append([], tracking=_tracking(5))])

    [result] = log.commit([Append([stored_event(1, 1)], tracking=_tracking(9, expected=4))])

    assert isinstance(result, StaleTracking)
    assert log.head().position == 0
    assert log.tracked("bravo")[0].position == 5


def test_first_tracking_expects_zero(log: LogRecorder) -> None:
    [result] = log.commit([Append([], tracking=_tracking(9, expected=4))])

    assert isinstance(result, StaleTracking)
    assert log.tracked("bravo") == []


def test_tracking_steps_of_one_group_follow_each_other(log: LogRecorder) -> None:
    results = log.commit(
        [
            Append([stored_event(1, 1)], tracking=_tracking(5)),
            Append([stored_event(1, 2)], tracking=_tracking(9, expected=5)),
        ]
    )

    assert [type(result) for result in results] == [Appended, Appended]
    assert log.tracked("bravo")[0].position == 9


def test_of_two_same_steps_in_one_group_the_second_is_stale(log: LogRecorder) -> None:
    first, second = log.commit(
        [
            Append([stored_event(1, 1)], tracking=_tracking(5)),
            Append([stored_event(2, 1)], tracking=_tracking(6)),
        ]
    )

    assert isinstance(first, Appended)
    assert isinstance(second, StaleTracking)
    assert (log.head().position, log.tracked("bravo")[0].position) == (1, 5)


def test_clash_of_events_leaves_the_tracking_untouched(log: LogRecorder) -> None:
    log.commit([Append([stored_event(1, 1)])])

    [result] = log.commit([Append([stored_event(1, 1, "other")], tracking=_tracking(5))])

    assert isinstance(result, IntegrityError)
    assert log.tracked("bravo") == []


def test_newest_incarnation_comes_first(log: LogRecorder) -> None:
    log.commit([Append([], tracking=_tracking(5))])
    log.commit([Append([], tracking=_tracking(3, incarnation=SECOND))])
    assert [t.incarnation for t in log.tracked("bravo")] == [SECOND, FIRST]

    log.commit([Append([], tracking=_tracking(6, expected=5))])

    assert [t.incarnation for t in log.tracked("bravo")] == [FIRST, SECOND]


def test_origins_whose_names_are_alike_are_told_apart(log: LogRecorder) -> None:
    for number, origin in enumerate(("a_b", "axb", "a%", "a", "A_B"), start=1):
        tracking = PeerTracking(tracking_name(origin, FIRST), number, root=b"")
        log.commit([Append([], tracking=tracking)])

    assert [t.position for t in log.tracked("a_b")] == [1]
    assert [t.position for t in log.tracked("a%")] == [3]
    assert [t.position for t in log.tracked("a")] == [4]
