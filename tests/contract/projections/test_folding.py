"""What stands in the tables is what the log says, however the log was cut into pages."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import message as write_side
from ledger.caller import CallerState
from ledger.events import Caller, decode
from ledger.ids import message_stream_id
from projections.calls import Calls
from projections.mailboxes import MAILBOXES, MESSAGE, Mailboxes
from projections.projection import decode_entries, fold_events
from projections.records import State
from projections.replay import mailboxes_digest, projected_mailboxes_digest
from projections.time_travel import find_streams, mailbox_at
from tests.support.histories import ACTIONS, History
from tests.support.running import ALL, Bench, replayed

STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 11)), min_size=1, max_size=25)
OVER_ONE_STORE = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def history_of(steps: list[tuple[str, int]]) -> History:
    history = History()
    history.call("2000", home="bravo")
    for action, pick in steps:
        history.step(action, pick)
    return history


@OVER_ONE_STORE
@given(steps=STEPS, page_events=st.integers(1, 9))
def test_pages_of_any_size_give_the_tables_that_one_fold_in_memory_gives(
    bench: Bench, steps, page_events
):
    bench.clear()
    history = history_of(steps)
    bench.runner(history.log, page_events=page_events).catch_up()
    contents = bench.contents()
    assert contents == replayed(history.log)
    assert contents["mailboxes.message"]


@settings(OVER_ONE_STORE, max_examples=10)
@given(steps=STEPS)
def test_a_mailbox_at_a_position_is_the_projection_stopped_there(bench: Bench, steps):
    bench.clear()
    history = history_of(steps)
    runner = bench.runner(history.log, [MAILBOXES], page_events=1)
    mailboxes = Mailboxes(bench.store)
    for position in range(1, history.position + 1):
        runner.run_cycle()
        for mailbox in ("2000@default", "2001@default"):
            page = mailboxes.page(mailbox)
            assert page.position == position
            scanned = mailbox_at(history.log, "alpha", mailbox, position)
            assert scanned.page() == page
            streams = mailboxes.streams(mailbox, position)
            assert mailbox_at(history.log, "alpha", mailbox, position, streams).page() == page


@given(steps=STEPS)
def test_the_index_and_the_scan_find_the_same_streams_for_time_travel(steps):
    history = history_of(steps)
    found = find_streams(history.log, "alpha", "2000@default", history.position)
    expected = {
        stream
        for taken in history.taken
        if taken.mailbox == "2000@default"
        for stream in (taken.call_id, message_stream_id(taken.message_id, "alpha"))
    }
    assert set(found) == expected
    assert expected


@given(steps=STEPS)
def test_the_status_of_a_message_is_the_one_that_the_write_side_decides_by(steps):
    history = history_of(steps)
    entries = history.log.read(1, 10_000)
    state = State("alpha")
    fold_events(MAILBOXES, state, decode_entries(entries))
    told = [decode(entry.plain) for entry in entries]
    for entry in state.all(MESSAGE):
        decided = write_side.project(entry.message_id, told)
        assert decided is not None
        assert entry.status.value == decided.status.value


def test_the_digest_of_the_tables_is_the_digest_of_a_replay(bench: Bench):
    history = History()
    for pick in range(40):
        history.step(ACTIONS[pick * 7 % len(ACTIONS)], pick)
    bench.run(history.log)
    digest = mailboxes_digest(history.log, "alpha")
    assert projected_mailboxes_digest(bench.store) == (digest, history.position)
    history.call("2000")
    assert mailboxes_digest(history.log, "alpha") != digest


def test_a_caller_whose_name_no_database_takes_stops_nothing(bench: Bench):
    history = History()
    history.call(caller=Caller(number="\x00", name="An\x00n"))
    runner = bench.run(history.log)
    assert all(status.stopped_error is None for status in runner.status())
    assert len(Mailboxes(bench.store).page("2001@default").entries) == 1
    digest = mailboxes_digest(history.log, "alpha")
    assert projected_mailboxes_digest(bench.store)[0] == digest


def test_extensions_too_long_for_an_index_stop_nothing_and_stay_apart(bench: Bench):
    history = History()
    digits = "".join(Random(1).choices("0123456789", k=20_000))
    extensions = [digits, digits + "1", "2001"]
    for extension in extensions:
        for _ in range(2):
            history.call(extension)
    runner = bench.run(history.log)
    assert all(status.stopped_error is None for status in runner.status())
    for extension in extensions:
        assert len(Calls(bench.store).page(extension=extension).calls) == 2
        page = Mailboxes(bench.store).page(f"{extension}@default")
        assert (len(page.entries), page.counts.new) == (2, 2)


def test_the_tables_hold_nobody_in_clear(bench: Bench):
    history = History()
    history.call(caller=Caller(number="+49304711", name="Ann Unmistakable"))
    history.call(home="bravo", caller=Caller(number="+49304711"), is_recovered=True)
    bench.run(history.log)
    contents = str(bench.contents())
    assert "4711" not in contents
    assert "Unmistakable" not in contents


def test_destroying_a_key_changes_no_table_and_no_replay(bench: Bench):
    history = History()
    kept, erased = history.call("2001"), history.call("2001")
    bench.run(history.log)
    before = bench.contents()
    history.destroy_key(erased)
    assert bench.contents() == before == replayed(history.log)
    calls = {c.call_id: c for c in Calls(bench.store).page().calls}
    states = {
        taken.call_id: history.callers.see_one(taken.call_id, calls[taken.call_id].caller).state
        for taken in (kept, erased)
    }
    assert states == {kept.call_id: CallerState.KNOWN, erased.call_id: CallerState.ERASED}


def test_a_record_that_comes_and_goes_within_a_page_is_never_written(bench: Bench):
    history = History()
    history.migrate(history.call(home="bravo"))
    bench.run(history.log)
    assert bench.contents()["pending.message"] == {}


def test_message_that_came_back_stays_when_the_receipt_of_its_first_way_comes(bench: Bench):
    history = History()
    taken = history.call("2001", home="bravo")
    history.requeue(taken, "alpha")  # which delivers it here
    taken.home = "bravo"
    history.migrate(taken)
    bench.run(history.log)
    [entry] = Mailboxes(bench.store).page("2001@default").entries
    assert (entry.message_id, entry.custody) == (taken.message_id, "alpha")


def test_opaque_events_are_counted_and_passed_over(bench: Bench):
    history = History()
    history.opaque()
    history.opaque("message-stored", v=99)
    history.call()
    runner = bench.run(history.log)
    assert {s.opaque_count for s in runner.status()} == {2}
    assert {s.position for s in runner.status()} == {history.position}
    assert len(runner.status()) == len(ALL)
