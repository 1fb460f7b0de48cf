"""Group commit: one transaction for all who wait, and an answer of one's own for each."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar
from uuid import uuid4

import pytest
from eventsourcing.persistence import IntegrityError

from ledger.errors import TransientError
from ledger.offload import ThreadOffload
from ledger.storage import group_commit
from ledger.storage.event_log import Append, Appended, LogHead
from ledger.storage.group_commit import EventLog, GroupCommit
from ledger.storage.memory import MemoryLogRecorder
from tests.support.stored_events import stored_event, stored_events

Result = TypeVar("Result")


class Recorded:
    """Commits to memory and keeps the sizes of the groups; fails or blocks when told to."""

    def __init__(self) -> None:
        self.log = MemoryLogRecorder(uuid4())
        self.groups: list[int] = []
        self.failures: list[Exception] = []
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.is_committing = threading.Event()

    def commit(self, appends: Sequence[Append]) -> Sequence[Appended | Exception]:
        self.is_committing.set()
        assert self.may_commit.wait(30)
        self.groups.append(len(appends))
        if self.failures:
            raise self.failures.pop()
        return self.log.commit(appends)


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def group(recorded: Recorded) -> GroupCommit:
    return GroupCommit(recorded.commit)


def _append(stream: int, version: int = 1) -> Append:
    return Append([stored_event(stream, version)])


def test_all_who_wait_share_one_commit(group: GroupCommit, recorded: Recorded) -> None:
    futures = [group.add(_append(stream)) for stream in range(5)]

    group.commit_waiting()

    assert recorded.groups == [5]
    assert [future.result(0).first_position for future in futures] == [1, 2, 3, 4, 5]


def test_nobody_waiting_commits_nothing(group: GroupCommit, recorded: Recorded) -> None:
    group.commit_waiting()

    assert recorded.groups == []


def test_clash_reaches_only_its_own_caller(group: GroupCommit) -> None:
    winner, loser, other = (group.add(_append(stream)) for stream in (1, 1, 2))

    group.commit_waiting()

    assert winner.result(0).first_position == 1
    assert isinstance(loser.exception(0), IntegrityError)
    assert other.result(0).first_position == 2


def test_failed_commit_reaches_all_who_waited_and_the_next_one_works(
    group: GroupCommit, recorded: Recorded
) -> None:
    recorded.failures = [TransientError("the disk is full")]
    futures = [group.add(_append(stream)) for stream in range(3)]
    group.commit_waiting()
    assert [type(future.exception(0)) for future in futures] == [TransientError] * 3

    assert group.append(_append(1)).first_position == 1


def test_trouble_is_told_until_a_commit_works_again(group: GroupCommit, recorded: Recorded) -> None:
    assert group.trouble() == ""
    recorded.failures.append(TransientError("the disk is full"))
    with pytest.raises(TransientError):
        group.append(_append(1))
    assert group.trouble() == "the disk is full"
    group.append(_append(1))
    assert group.trouble() == ""


def test_trouble_that_nobody_tried_again_is_not_told_for_ever(
    group: GroupCommit, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "_RECENT_S", -1.0)
    recorded.failures.append(TransientError("the disk is full"))
    with pytest.raises(TransientError):
        group.append(_append(1))
    assert group.trouble() == ""


def test_caller_who_gave_up_gets_nothing_written_and_disturbs_nobody(
    group: GroupCommit, recorded: Recorded
) -> None:
    before, quitter, after = (group.add(_append(stream)) for stream in (1, 2, 3))
    assert quitter.cancel()

    group.commit_waiting()

    assert recorded.groups == [2]
    assert [f.result(0).first_position for f in (before, after)] == [1, 2]


def test_large_backlog_is_committed_in_bounded_groups(
    group: GroupCommit, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MOST_EVENTS_A_COMMIT", 10)
    futures = [group.add(Append(stored_events(stream, range(1, 5)))) for stream in range(6)]

    while group.has_waiting():
        group.commit_waiting()

    assert recorded.groups == [3, 3]
    assert all(future.done() for future in futures)


def test_overloaded_log_refuses_at_once(
    group: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MOST_WAITING", 2)
    waiting = [group.add(_append(stream)) for stream in (1, 2)]

    with pytest.raises(TransientError, match="wait for the disk"):
        group.add(_append(3))

    group.commit_waiting()
    assert [future.result(0).first_position for future in waiting] == [1, 2]


def test_listener_hears_the_head_of_each_commit_that_wrote(group: GroupCommit) -> None:
    heads: list[LogHead] = []
    group.add_listener(heads.append)

    group.append(_append(1))
    with pytest.raises(IntegrityError):
        group.append(_append(1))
    group.append(_append(2))

    assert [head.position for head in heads] == [1, 2]


def test_listener_that_fails_disturbs_neither_caller_nor_listeners(group: GroupCommit) -> None:
    heads: list[LogHead] = []

    def fail(_head: LogHead) -> None:
        raise ValueError("a broken listener")

    group.add_listener(fail)
    group.add_listener(heads.append)

    assert group.append(_append(1)).first_position == 1
    assert [head.position for head in heads] == [1]


def test_threads_that_come_during_a_commit_share_the_next(
    group: GroupCommit, recorded: Recorded
) -> None:
    recorded.may_commit.clear()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(group.append, _append(0))
        assert recorded.is_committing.wait(30)
        others = [group.add(_append(stream)) for stream in range(1, 5)]
        threads = [pool.submit(group.append, _append(stream)) for stream in range(5, 9)]
        recorded.may_commit.set()

        assert first.result(30).first_position == 1
        for thread in threads:
            thread.result(30)

    assert all(future.done() for future in others)
    assert recorded.groups[0] == 1
    assert sum(recorded.groups) == 9
    assert len(recorded.groups) <= 6


async def _in_place(work: Callable[[], Result]) -> Result:
    return work()


def _event_log() -> tuple[EventLog, MemoryLogRecorder]:
    recorder = MemoryLogRecorder(uuid4())
    return EventLog(recorder, _in_place), recorder


def test_tasks_that_append_together_share_one_commit() -> None:
    async def scenario() -> None:
        log, recorder = _event_log()
        groups: list[int] = []
        recorder.group.add_listener(lambda head: groups.append(head.position))

        done = await asyncio.gather(*(log.append(_append(stream)) for stream in range(5)))

        assert sorted(appended.first_position for appended in done) == [1, 2, 3, 4, 5]
        assert groups == [5]

    asyncio.run(scenario())


def test_cancelled_task_leaves_the_others_their_answers() -> None:
    async def scenario() -> None:
        log, recorder = _event_log()
        tasks = [asyncio.create_task(log.append(_append(stream))) for stream in (1, 2, 3)]
        await asyncio.sleep(0)
        tasks[1].cancel()

        results = await asyncio.gather(*tasks, return_exceptions=True)

        assert isinstance(results[0], Appended)
        assert isinstance(results[1], asyncio.CancelledError)
        assert isinstance(results[2], Appended)
        assert recorder.head().position == results[2].head.position

    asyncio.run(scenario())


def test_appends_from_tasks_go_through_real_threads() -> None:
    async def scenario() -> None:
        offload = ThreadOffload(2)
        log = EventLog(MemoryLogRecorder(uuid4()), offload)

        done = await asyncio.gather(*(log.append(_append(stream)) for stream in range(200)))

        assert sorted(a.first_position for a in done) == list(range(1, 201))
        assert (await log.head()).position == 200
        offload.close()

    asyncio.run(scenario())


def test_task_is_told_when_nothing_is_left_to_run_its_append() -> None:
    async def scenario() -> None:
        offload = ThreadOffload(1)
        log = EventLog(MemoryLogRecorder(uuid4()), offload)
        offload.close()

        with pytest.raises(RuntimeError, match="shutdown"):
            await log.append(_append(1))

    asyncio.run(scenario())


def test_closing_waits_until_every_append_is_answered() -> None:
    async def scenario() -> None:
        log, recorder = _event_log()
        task = asyncio.create_task(log.append(_append(1)))
        await asyncio.sleep(0)

        await log.close()

        assert recorder.head().position == 1
        await task

    asyncio.run(scenario())


def test_each_future_is_answered_when_the_program_is_told_to_stop(
    group: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_appends: Sequence[Append]) -> Sequence[Appended | Exception]:
        raise KeyboardInterrupt

    monkeypatch.setattr(group, "_commit", stop)
    future: Future[Appended] = group.add(_append(1))

    with pytest.raises(KeyboardInterrupt):
        group.commit_waiting()

    assert isinstance(future.exception(0), KeyboardInterrupt)
