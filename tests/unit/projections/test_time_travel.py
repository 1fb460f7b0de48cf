"""A mailbox at a past time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.events import decode
from projections.mailboxes import EntryStatus
from projections.time_travel import mailbox_at, position_at
from tests.support.histories import ACTIONS, START, History


@pytest.fixture
def history() -> History:
    return History()


def test_a_mailbox_is_shown_as_it_was_at_a_position(history: History):
    first = history.call("2001")
    then = history.position
    history.act(first, "hear")
    history.call("2001")
    past = mailbox_at(history.log, "alpha", "2001@default", then)
    assert [(e.message_id, e.status) for e in past.entries] == [(first.message_id, EntryStatus.NEW)]
    assert (past.counts.new, past.counts.heard) == (1, 0)
    now = mailbox_at(history.log, "alpha", "2001@default", history.position)
    assert (now.counts.new, now.counts.heard) == (1, 1)


def test_pages_of_the_past_join_like_those_of_today(history: History):
    for _ in range(5):
        history.call("2001")
    past = mailbox_at(history.log, "alpha", "2001@default", history.position)
    first = past.page(limit=3)
    rest = past.page(limit=3, before=first.next_before)
    assert first.entries + rest.entries == past.entries
    assert rest.next_before is None
    assert len(past.entries) == 5


def test_a_mailbox_before_its_first_message_is_empty(history: History):
    history.call("2001")
    assert mailbox_at(history.log, "alpha", "2001@default", 0).entries == ()
    assert mailbox_at(history.log, "alpha", "2001@default", 2).entries == ()


def test_a_time_before_the_first_event_is_position_0(history: History):
    history.call("2001")
    assert position_at(history.log, "alpha", START - timedelta(days=1)) == 0
    assert position_at(History().log, "alpha", START) == 0


def test_what_came_from_elsewhere_counts_from_when_it_was_taken_in(history: History):
    history.call("2001")
    before = history.at
    history.at += timedelta(minutes=1)
    history.call("2002", taken_by="bravo")
    assert position_at(history.log, "alpha", before) == 4
    assert position_at(history.log, "alpha", history.at) == history.position


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, 11)), min_size=1, max_size=25
    ),
    seconds=st.integers(-1, 60),
)
def test_a_time_stands_for_the_last_own_event_recorded_by_then(steps, seconds):
    history = History()
    for action, pick in steps:
        history.step(action, pick)
    moment = START + timedelta(seconds=seconds)
    entries = history.log.read(1, 10_000)
    told = [(entry.position, decode(entry.plain)) for entry in entries]
    own = [p for p, e in told if e.recorded_by == "alpha" and e.recorded_at <= moment]
    assert position_at(history.log, "alpha", moment) == max(own, default=0)
