"""An event that cannot be folded stops the projection that needs it, and nothing else."""

from __future__ import annotations

import pytest

from ledger.errors import CorruptionError
from ledger.storage.event_log import LogEntry
from ledger.storage.memory import MemoryLogRecorder
from projections.builds import BuildState
from projections.calls import Calls
from projections.mailboxes import Mailboxes
from projections.runner import ProjectionRunner
from tests.support.histories import History
from tests.support.running import Bench, serving


def stopped(runner: ProjectionRunner) -> set[str]:
    return {s.name for s in runner.status() if s.state is BuildState.STOPPED}


def test_an_event_that_breaks_its_own_rules_stops_only_who_needs_it(bench: Bench):
    history = History()
    history.call("2001")
    history.spoilt("recording-set-aside")
    culprit = history.position
    history.call("2001")
    runner = bench.run(history.log)
    assert stopped(runner) == {"calls"}
    status = serving(runner, "calls")
    assert (status.position, status.stopped_position) == (culprit - 1, culprit)
    assert status.stopped_topic == "recording-set-aside"
    assert f"position {culprit}" in (status.stopped_error or "")
    assert status.lag_events == history.position - culprit + 1
    assert len(Mailboxes(bench.store).page("2001@default").entries) == 2


def test_what_came_before_the_culprit_is_kept_and_served(bench: Bench):
    history = History()
    for _ in range(5):
        history.call("2001")
    history.spoilt("message-stored")
    runner = bench.run(history.log)
    assert stopped(runner) == {"mailboxes", "pending", "calls"}
    page = Mailboxes(bench.store).page("2001@default")
    assert (len(page.entries), page.position) == (5, history.position - 1)


def test_an_event_about_a_message_that_was_never_stored_stops_the_mailboxes(bench: Bench):
    history = History()
    taken = history.call("2001")
    taken.message_id = taken.call_id
    history.act(taken, "hear")
    runner = bench.run(history.log)
    assert stopped(runner) == {"mailboxes"}
    assert "never stored" in (serving(runner, "mailboxes").stopped_error or "")


def test_a_number_that_no_database_holds_stops_only_who_stores_it(bench: Bench):
    history = History()
    history.call("2001", duration_ms=2**63)
    history.call("2002")
    runner = bench.run(history.log)
    assert stopped(runner) == {"mailboxes"}
    assert serving(runner, "mailboxes").stopped_topic == "message-stored"
    assert len(Calls(bench.store).page().calls) == 2


class Damaged(MemoryLogRecorder):
    """A log of which one entry cannot be read any more."""

    position = 0

    def read(self, start: int, limit: int, stop: int | None = None) -> list[LogEntry]:
        entries = super().read(start, limit, stop)
        if any(entry.position == self.position for entry in entries):
            raise CorruptionError("unreadable", place=f"position {self.position}")
        return entries


def test_an_entry_that_cannot_be_read_stops_all_at_that_entry(bench: Bench):
    history = History()
    history.call("2001")
    history.call("2001")
    log = Damaged(image=history.log.image)
    log.position = 6
    runner = bench.run(log)
    assert {(s.position, s.state) for s in runner.status()} == {(5, BuildState.STOPPED)}
    assert all("position 6" in (s.stopped_error or "") for s in runner.status())


def test_a_stopped_projection_is_tried_again_by_the_next_program(bench: Bench):
    history = History()
    history.call("2001")
    log = Damaged(image=history.log.image)
    log.position = 3
    bench.run(log)
    runner = bench.run(history.log)
    assert stopped(runner) == set()
    assert {s.position for s in runner.status()} == {history.position}


def test_a_rebuild_that_meets_the_culprit_leaves_the_old_build_serving(bench: Bench):
    history = History()
    history.call("2001")
    runner = bench.run(history.log)
    history.spoilt("message-heard")
    runner.catch_up()
    runner.rebuild("mailboxes")
    runner.catch_up()
    states = [(s.number, s.is_serving, s.state) for s in runner.status() if s.name == "mailboxes"]
    assert states == [(1, True, BuildState.STOPPED), (2, False, BuildState.STOPPED)]
    assert len(Mailboxes(bench.store).page("2001@default").entries) == 1


@pytest.mark.parametrize("name", ["mailboxes", "calls"])
def test_nobody_waits_for_a_stopped_projection(bench: Bench, name: str):
    history = History()
    history.spoilt("recording-set-aside" if name == "calls" else "message-heard")
    history.call("2001")
    runner = bench.run(history.log)
    assert stopped(runner) == {name}
    assert runner.wait_for(history.position, 0)


def test_nobody_waits_when_every_projection_is_stopped(bench: Bench):
    history = History()
    history.call("2001")
    log = Damaged(image=history.log.image)
    log.position = 2
    runner = bench.run(log)
    assert len(stopped(runner)) == len(runner.status())
    assert runner.wait_for(history.position, 0)
