"""The thread that keeps the projections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.errors import TransientError
from ledger.storage.event_log import LogHead
from ledger.storage.memory import MemoryLogRecorder
from projections.mailboxes import Mailboxes
from projections.runner import ProjectionRunner
from tests.support.histories import History
from tests.support.running import Bench, serving

PATIENCE_S = 30.0


@pytest.fixture
def history() -> History:
    history = History()
    history.call("2001")
    return history


@pytest.fixture
def runner(bench: Bench, history: History) -> Iterator[ProjectionRunner]:
    runner = bench.runner(history.log)
    runner.start()
    yield runner
    runner.stop()


def test_what_was_waited_for_is_in_the_answer(
    bench: Bench, history: History, runner: ProjectionRunner
):
    assert runner.wait_for(history.position, PATIENCE_S)
    history.call("2001")
    runner.notify(history.position)
    assert runner.wait_for(history.position, PATIENCE_S)
    assert len(Mailboxes(bench.store).page("2001@default").entries) == 2


def test_a_lost_wake_up_costs_a_moment_and_no_event(bench: Bench, history: History):
    runner = bench.runner(history.log, poll_interval_s=0.01)
    runner.start()
    assert runner.wait_for(history.position, PATIENCE_S)
    history.call("2001")
    assert runner.wait_for(history.position, PATIENCE_S)
    runner.stop()


def test_waiting_for_what_is_not_there_ends_with_no(history: History, runner: ProjectionRunner):
    assert not runner.wait_for(history.position + 1, 0.01)


def test_before_the_first_cycle_nothing_is_reached(bench: Bench, history: History):
    assert not bench.runner(history.log).wait_for(0, 0)


def test_a_stopped_runner_lets_nobody_wait(history: History, runner: ProjectionRunner):
    assert runner.wait_for(history.position, PATIENCE_S)
    runner.stop()
    assert not runner.wait_for(history.position + 1, PATIENCE_S)


class Flaky(MemoryLogRecorder):
    """A log that cannot be read the first times."""

    failures = 3

    def head(self) -> LogHead:
        self.failures -= 1
        if self.failures >= 0:
            raise TransientError("away")
        return super().head()


def test_the_thread_outlives_a_log_that_is_away(bench: Bench, history: History):
    runner = bench.runner(Flaky(image=history.log.image), poll_interval_s=0.01)
    runner.start()
    assert runner.wait_for(history.position, PATIENCE_S)
    runner.stop()


def test_the_status_says_how_far_behind_each_projection_is(bench: Bench, history: History):
    runner = bench.runner(history.log, page_events=1)
    runner.run_cycle()
    status = serving(runner, "mailboxes")
    assert (status.position, status.lag_events) == (1, history.position - 1)
    assert status.lag_s > 86_000
    runner.catch_up()
    status = serving(runner, "mailboxes")
    assert (status.lag_events, status.lag_s) == (0, 0.0)
