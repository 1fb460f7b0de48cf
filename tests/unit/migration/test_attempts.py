"""Every failed attempt is counted in one event, and a long outage costs few of them."""

from datetime import UTC, datetime, timedelta

import pytest

from ledger.clock import SystemClock
from ledger.migration.attempts import AttemptCount, FailedAttempts


class Ticking(SystemClock):
    """A second passes between two looks."""

    def __init__(self):
        self.ticks = 0

    def now(self):
        self.ticks += 1
        return datetime(2026, 3, 14, tzinfo=UTC) + timedelta(seconds=self.ticks)


class Noted:
    def __init__(self):
        self.successes = self.failures = 0

    def note_success(self, peer):
        self.successes += 1

    def note_failure(self, peer, problem):
        self.failures += 1


@pytest.fixture
def recorded() -> list[FailedAttempts]:
    return []


@pytest.fixture
def count(recorded) -> AttemptCount:
    return AttemptCount(Noted(), Ticking(), recorded.append)


def fail(count: AttemptCount, times: int, peer: str = "bravo") -> None:
    for _ in range(times):
        count.note_failure(peer, "no answer")


@pytest.mark.parametrize("failures", [1, 2, 3, 7, 8, 9, 100])
def test_all_attempts_of_a_run_are_counted_once_it_ends(count, recorded, failures):
    fail(count, failures)
    count.note_success("bravo")
    assert sum(run.attempts for run in recorded) == failures
    counted_before = [run.attempts_before for run in recorded]
    assert counted_before == [
        sum(run.attempts for run in recorded[:n]) for n in range(len(recorded))
    ]


def test_outage_of_three_thousand_attempts_costs_a_dozen_events(count, recorded):
    fail(count, 3000)
    count.note_success("bravo")
    assert len(recorded) == 13


def test_run_says_when_its_first_and_last_attempt_were(count, recorded):
    fail(count, 4)
    assert [run.attempts for run in recorded] == [1, 1, 2]
    third = recorded[-1]
    assert third.last_at - third.first_at == timedelta(seconds=1)
    assert third.problem == "no answer"


def test_new_run_begins_at_one(count, recorded):
    fail(count, 2)
    count.note_success("bravo")
    recorded.clear()
    fail(count, 1)
    assert [(run.attempts, run.attempts_before) for run in recorded] == [(1, 0)]


def test_peers_are_counted_apart_and_success_alone_records_nothing(count, recorded):
    count.note_success("bravo")
    fail(count, 1, "charlie")
    fail(count, 1, "bravo")
    assert {(run.home, run.attempts) for run in recorded} == {("charlie", 1), ("bravo", 1)}


def test_observer_behind_is_told_of_everything():
    behind = Noted()
    count = AttemptCount(behind, Ticking(), lambda run: None)
    fail(count, 3)
    count.note_success("bravo")
    assert (behind.successes, behind.failures) == (1, 3)
