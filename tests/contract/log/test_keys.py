"""What every adapter promises of keys: there with their events, gone for good when destroyed."""

from collections.abc import Callable
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.sealing import WrappedKey
from ledger.storage.event_log import Append, LogRecorder
from tests.support.stored_events import stored_event

FIRST, SECOND, THIRD = (UUID(int=number) for number in (1, 2, 3))


def test_keys_come_with_their_events(reopen: Callable[[], LogRecorder]) -> None:
    keys = [WrappedKey(FIRST, b"one"), WrappedKey(SECOND, b"two")]
    reopen().commit([Append([stored_event(1, 1)], keys=keys)])

    found = reopen().read_keys([FIRST, SECOND, THIRD])

    assert found == {key.key_id: key for key in keys}


def test_append_that_clashes_brings_no_key_and_destroys_none(log: LogRecorder) -> None:
    log.commit([Append([stored_event(1, 1)], keys=[WrappedKey(FIRST, b"one")])])

    [result] = log.commit(
        [
            Append(
                [stored_event(1, 1, "other")],
                keys=[WrappedKey(FIRST, None), WrappedKey(SECOND, b"two")],
            )
        ]
    )

    assert isinstance(result, IntegrityError)
    assert log.read_keys([FIRST, SECOND]) == {FIRST: WrappedKey(FIRST, b"one")}


def test_first_key_of_a_call_is_kept(log: LogRecorder) -> None:
    log.commit([Append([], keys=[WrappedKey(FIRST, b"one")])])
    log.commit([Append([], keys=[WrappedKey(FIRST, b"another")])])

    assert log.read_keys([FIRST]) == {FIRST: WrappedKey(FIRST, b"one")}


def test_destroyed_key_does_not_come_back(reopen: Callable[[], LogRecorder]) -> None:
    log = reopen()
    log.commit([Append([], keys=[WrappedKey(FIRST, b"one"), WrappedKey(SECOND, b"two")])])
    log.commit([Append([stored_event(1, 1)], keys=[WrappedKey(FIRST, None)])])
    log.commit([Append([], keys=[WrappedKey(FIRST, b"one")])])

    assert reopen().read_keys([FIRST, SECOND]) == {
        FIRST: WrappedKey(FIRST, None),
        SECOND: WrappedKey(SECOND, b"two"),
    }


def test_key_that_was_destroyed_before_it_came_does_not_come(log: LogRecorder) -> None:
    log.commit([Append([], keys=[WrappedKey(FIRST, None)])])
    log.commit([Append([stored_event(1, 1)], keys=[WrappedKey(FIRST, b"one")])])

    assert log.read_keys([FIRST]) == {FIRST: WrappedKey(FIRST, None)}


def test_in_one_group_destroying_wins_in_any_order(log: LogRecorder) -> None:
    log.commit(
        [
            Append([stored_event(1, 1)], keys=[WrappedKey(FIRST, b"one")]),
            Append([stored_event(2, 1)], keys=[WrappedKey(FIRST, None)]),
            Append([stored_event(3, 1)], keys=[WrappedKey(SECOND, None)]),
            Append([stored_event(4, 1)], keys=[WrappedKey(SECOND, b"two")]),
            Append([stored_event(5, 1)], keys=[WrappedKey(THIRD, b"three")]),
            Append([stored_event(6, 1)], keys=[WrappedKey(THIRD, b"again")]),
        ]
    )

    assert log.read_keys([FIRST, SECOND, THIRD]) == {
        FIRST: WrappedKey(FIRST, None),
        SECOND: WrappedKey(SECOND, None),
        THIRD: WrappedKey(THIRD, b"three"),
    }


def test_keys_of_a_large_batch_all_come(log: LogRecorder) -> None:
    calls = [UUID(int=number) for number in range(1, 2_501)]
    events = [stored_event(number, 1) for number in range(1, 501)]
    log.commit([Append(events, keys=[WrappedKey(call, call.bytes) for call in calls])])

    found = log.read_keys(calls)

    assert [found[call].wrapped for call in calls] == [call.bytes for call in calls]


def test_keys_are_no_part_of_the_tree(log: LogRecorder) -> None:
    log.commit([Append([stored_event(1, 1)], keys=[WrappedKey(FIRST, b"one")])])
    before = log.head()

    log.commit([Append([], keys=[WrappedKey(FIRST, None)])])

    assert log.head() == before
