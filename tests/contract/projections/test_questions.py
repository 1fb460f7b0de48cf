"""What the read models answer."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from ledger.caller import CallerState, SeenCaller
from ledger.events import Caller, CallStatus, DecisionReason, PeerState
from projections.calls import CallOutcome, Calls
from projections.mailboxes import EntryStatus, MailboxCounts, Mailboxes
from projections.pending import Pending, PendingState
from projections.servers import Servers
from tests.support.histories import START, History
from tests.support.running import Bench


@pytest.fixture
def history() -> History:
    return History()


# --- mailboxes ------------------------------------------------------------------------


def test_a_delivered_message_is_shown_with_all_that_is_known_of_it(bench: Bench, history: History):
    taken = history.call("2001", caller=Caller(number="+4930", name="Ann"), is_recovered=True)
    bench.run(history.log)
    (entry,) = Mailboxes(bench.store).page("2001@default").entries
    assert (entry.message_id, entry.call_id) == (taken.message_id, taken.call_id)
    seen = history.callers.see_one(entry.call_id, entry.caller)
    assert seen == SeenCaller(state=CallerState.KNOWN, caller=Caller(number="+4930", name="Ann"))
    assert (entry.origin, entry.home, entry.custody) == ("alpha", "alpha", "alpha")
    assert (entry.status, entry.is_pending, entry.is_recovered) == (EntryStatus.NEW, False, True)
    assert (entry.duration_ms, entry.codec) == (4000, "pcmu")
    assert entry.delivered_at is not None
    assert entry.received_at < entry.delivered_at


def test_a_message_from_another_server_is_listed_at_home_from_its_delivery_on(
    bench: Bench, history: History
):
    history.call("2001", taken_by="bravo")
    runner = bench.runner(history.log, page_events=1)
    shown = []
    for _ in range(history.position):
        runner.run_cycle()
        shown.append(len(Mailboxes(bench.store).page("2001@default").entries))
    assert shown == [0, 0, 0, 1]
    (entry,) = Mailboxes(bench.store).page("2001@default").entries
    assert (entry.origin, entry.custody, entry.is_pending) == ("bravo", "alpha", False)


def test_a_message_for_another_server_is_listed_here_until_its_home_has_it(
    bench: Bench, history: History
):
    taken = history.call("2001", home="bravo")
    mailboxes = Mailboxes(bench.store)
    bench.run(history.log)
    (entry,) = mailboxes.page("2001@default", only_pending=True).entries
    assert (entry.is_pending, entry.custody, entry.home) == (True, "alpha", "bravo")
    assert mailboxes.counts("2001@default").pending == 1
    history.migrate(taken)
    bench.run(history.log)
    assert mailboxes.page("2001@default").entries == ()
    assert mailboxes.counts("2001@default") == MailboxCounts(mailbox="2001@default")
    left = mailboxes.message(taken.message_id)
    assert left is not None
    assert (left.custody, left.is_listed, left.is_pending) == ("bravo", False, False)


def test_both_messages_of_an_interrupted_call_tell_who_called(bench: Bench, history: History):
    part = history.call("2001", home="bravo", caller=Caller(number="+4930"), is_recovered=True)
    bench.run(history.log)
    history.second_message(part)
    bench.run(history.log)
    entries = Mailboxes(bench.store).page("2001@default").entries
    seen = history.callers.see((e.call_id, e.caller) for e in entries)
    assert [(e.is_recovered, who.caller.number) for e, who in zip(entries, seen, strict=True)] == [
        (False, "+4930"),
        (True, "+4930"),
    ]


def test_callers_are_not_remembered_once_their_calls_are_over(bench: Bench, history: History):
    history.call("2001")
    history.ended_call("normally")
    history.ended_call("abandoned")
    bench.runner(history.log, page_events=1).catch_up()
    assert bench.contents()["mailboxes.caller"] == {}
    assert bench.contents()["mailboxes.message"]


def test_the_origins_word_that_we_have_a_message_takes_nothing_from_us(
    bench: Bench, history: History
):
    taken = history.call("2001", taken_by="bravo")
    history.migrate(taken)
    bench.run(history.log)
    (entry,) = Mailboxes(bench.store).page("2001@default").entries
    assert entry.custody == "alpha"
    assert outcome(bench, taken.call_id) is CallOutcome.DELIVERED


def test_what_a_user_did_to_a_pending_message_shows(bench: Bench, history: History):
    taken = history.call("2001", home="bravo")
    history.act(taken, "hear", by="ann")
    bench.run(history.log)
    (entry,) = Mailboxes(bench.store).page("2001@default").entries
    assert (entry.status, entry.heard_by) == (EntryStatus.HEARD, "ann")


def test_counts_tell_new_and_old_messages_apart(bench: Bench, history: History):
    for deeds in ([], [], ["hear"], ["save"], ["hear", "delete"], ["erase"]):
        taken = history.call("2001")
        for deed in deeds:
            history.act(taken, deed)
    bench.run(history.log)
    counts = Mailboxes(bench.store).counts("2001@default")
    assert counts == MailboxCounts(mailbox="2001@default", new=2, heard=1, saved=1, deleted=1)
    assert counts.old == 2


def test_a_restored_message_is_what_it_was_before(bench: Bench, history: History):
    taken = history.call("2001")
    for deed in ("save", "delete", "restore"):
        history.act(taken, deed)
    bench.run(history.log)
    entry = Mailboxes(bench.store).message(taken.message_id)
    assert entry is not None
    assert entry.status is EntryStatus.SAVED


def test_an_erased_message_is_listed_nowhere(bench: Bench, history: History):
    taken = history.call("2001")
    history.act(taken, "erase")
    bench.run(history.log)
    assert Mailboxes(bench.store).page("2001@default").entries == ()


def test_pages_of_a_mailbox_join_without_gap_or_overlap(bench: Bench, history: History):
    for _ in range(11):
        history.call("2001")
        history.call("2002")
    bench.run(history.log)
    mailboxes = Mailboxes(bench.store)
    whole = mailboxes.page("2001@default", limit=100)
    assert len(whole.entries) == 11
    assert whole.next_before is None
    joined, before = [], None
    for _ in range(4):
        page = mailboxes.page("2001@default", before=before, limit=3)
        joined += page.entries
        before = page.next_before
    assert before is None
    assert joined == list(whole.entries)
    newest_first = sorted(joined, key=lambda e: (e.received_at, e.message_id), reverse=True)
    assert joined == newest_first


def test_a_page_can_be_of_some_statuses_only(bench: Bench, history: History):
    history.call("2001")
    heard = history.call("2001")
    history.act(heard, "hear")
    bench.run(history.log)
    page = Mailboxes(bench.store).page("2001@default", statuses=[EntryStatus.HEARD])
    assert [entry.message_id for entry in page.entries] == [heard.message_id]


def test_an_unknown_mailbox_is_an_empty_one(bench: Bench, history: History):
    history.call("2001")
    bench.run(history.log)
    page = Mailboxes(bench.store).page("nobody@nowhere")
    assert (page.entries, page.next_before, page.counts.new) == ((), None, 0)


def test_mailboxes_are_listed_by_address(bench: Bench, history: History):
    for extension in ("2003", "2001", "2002", "2001"):
        history.call(extension)
    bench.run(history.log)
    mailboxes = Mailboxes(bench.store)
    listed = [(c.mailbox, c.new) for c in mailboxes.mailboxes()]
    assert listed == [("2001@default", 2), ("2002@default", 1), ("2003@default", 1)]
    assert [c.mailbox for c in mailboxes.mailboxes(after="2001@default", limit=1)] == [
        "2002@default"
    ]


def test_message_that_its_home_lost_and_refuses_now_is_held_here_again(
    bench: Bench, history: History
):
    taken = history.call("2001", home="bravo")
    history.migrate(taken)
    history.refuse(taken)
    bench.run(history.log)
    mailboxes = Mailboxes(bench.store)
    (entry,) = mailboxes.page("2001@default").entries
    assert (entry.is_pending, entry.home, entry.custody) == (True, "bravo", "alpha")
    history.requeue(taken, "charlie")
    bench.run(history.log)
    (entry,) = mailboxes.page("2001@default").entries
    assert (entry.is_pending, entry.home, entry.custody) == (True, "charlie", "alpha")
    history.migrate(taken)
    bench.run(history.log)
    assert mailboxes.page("2001@default").entries == ()


# --- pending --------------------------------------------------------------------------


def test_what_waits_is_summed_up_for_each_home(bench: Bench, history: History):
    first = history.call("2001", home="bravo")
    history.call("2001", home="bravo")
    refused = history.call("2002", home="charlie")
    history.refuse(refused, "bad-audio")
    history.call("2003")
    bench.run(history.log)
    bravo, charlie = Pending(bench.store).homes()
    assert (bravo.home, bravo.count, bravo.size_bytes, bravo.held_count) == ("bravo", 2, 2000, 0)
    entry = Mailboxes(bench.store).message(first.message_id)
    assert entry is not None
    assert bravo.oldest_at == entry.received_at
    assert (charlie.held_count, charlie.held_reasons) == (1, {"bad-audio": 1})
    assert charlie.oldest_age_s(charlie.oldest_at + timedelta(seconds=9)) == 9
    assert bravo.held_age_s(bravo.oldest_at + timedelta(seconds=9)) == 0
    assert charlie.held_since > charlie.oldest_at
    assert charlie.held_age_s(charlie.held_since + timedelta(seconds=9)) == 9
    assert charlie.oldest_age_s(charlie.oldest_at - timedelta(seconds=9)) == 0


def test_pending_messages_are_listed_in_the_order_in_which_they_were_stored(
    bench: Bench, history: History
):
    kept = [history.call("2001", home=home) for home in ("bravo", "charlie", "bravo")]
    bench.run(history.log)
    pending = Pending(bench.store)
    assert [m.message_id for m in pending.messages()] == [t.message_id for t in kept]
    assert [m.message_id for m in pending.messages("charlie")] == [kept[1].message_id]
    (first, *_) = pending.messages(limit=1)
    assert [m.message_id for m in pending.messages(after_position=first.position)] == [
        t.message_id for t in kept[1:]
    ]


def test_a_refused_message_stays_until_it_is_requeued(bench: Bench, history: History):
    taken = history.call("2001", home="bravo")
    history.refuse(taken)
    bench.run(history.log)
    (held,) = Pending(bench.store).messages()
    assert (held.state, held.reason, held.home) == (
        PendingState.REFUSED,
        "not-my-mailbox",
        "bravo",
    )
    history.requeue(taken, "charlie")
    bench.run(history.log)
    (moved,) = Pending(bench.store).messages()
    assert (moved.state, moved.home) == (PendingState.REQUEUED, "charlie")


def test_nothing_waits_for_a_home_that_gave_its_receipt(bench: Bench, history: History):
    history.migrate(history.call("2001", home="bravo"))
    bench.run(history.log)
    assert Pending(bench.store).homes() == []
    assert Pending(bench.store).messages() == []


def test_message_that_its_home_lost_and_refuses_now_waits_again(bench: Bench, history: History):
    taken = history.call("2001", home="bravo")
    history.migrate(taken)
    history.refuse(taken)
    bench.run(history.log)
    pending = Pending(bench.store)
    (held,) = pending.messages()
    assert (held.state, held.home, held.size_bytes) == (PendingState.REFUSED, "bravo", 1000)
    assert [home.held_count for home in pending.homes()] == [1]
    history.requeue(taken, "charlie")
    bench.run(history.log)
    (moved,) = pending.messages()
    assert (moved.state, moved.home) == (PendingState.REQUEUED, "charlie")
    history.migrate(taken)
    bench.run(history.log)
    assert pending.messages() == []


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_message_that_is_erased_while_it_waits_waits_no_longer(
    bench: Bench, history: History, is_refused: bool
):
    taken = history.call("2001", home="bravo")
    if is_refused:
        history.refuse(taken)
    history.act(taken, "erase")
    bench.run(history.log)
    assert Pending(bench.store).homes() == []
    assert Pending(bench.store).messages() == []


def test_a_message_requeued_to_this_server_waits_no_longer(bench: Bench, history: History):
    taken = history.call("2001", home="bravo")
    history.requeue(taken, "alpha")
    bench.run(history.log)
    assert Pending(bench.store).messages() == []
    (entry,) = Mailboxes(bench.store).page("2001@default").entries
    assert (entry.is_pending, entry.home, entry.custody) == (False, "alpha", "alpha")


# --- calls ----------------------------------------------------------------------------


def outcome(bench: Bench, call_id: UUID) -> CallOutcome:
    call = Calls(bench.store).call(call_id)
    assert call is not None
    return call.outcome


def test_every_call_tells_how_it_ended(bench: Bench, history: History):
    calls = {
        history.call("2001").call_id: CallOutcome.DELIVERED,
        history.call("2001", taken_by="bravo").call_id: CallOutcome.DELIVERED,
        history.call("2001", home="bravo").call_id: CallOutcome.STORED,
        history.ended_call("normally"): CallOutcome.HANDLED_NORMALLY,
        history.ended_call("abandoned"): CallOutcome.ABANDONED,
        history.ended_call("set-aside"): CallOutcome.SET_ASIDE,
        history.ended_call("not yet"): CallOutcome.IN_PROGRESS,
    }
    migrated = history.call("2001", home="bravo")
    history.migrate(migrated)
    calls[migrated.call_id] = CallOutcome.MIGRATED
    bench.run(history.log)
    assert {call_id: outcome(bench, call_id) for call_id in calls} == calls


def test_a_call_tells_its_decision_and_what_that_rested_on(bench: Bench, history: History):
    taken = history.call("2001", home="bravo")
    bench.run(history.log)
    call = Calls(bench.store).call(taken.call_id)
    assert call is not None
    assert (call.to_voicemail, call.reason) == (True, DecisionReason.NO_ANSWER)
    assert (call.home, call.is_remote, call.is_reachable) == ("bravo", True, False)
    assert call.evidence is not None
    assert (call.evidence.peer, call.evidence.state) == ("bravo", PeerState.DOWN)
    assert (call.status, call.taken_by) == (CallStatus.NO_ANSWER, "alpha")
    assert call.message_ids == (taken.message_id,)


def test_an_unknown_call_is_none(bench: Bench, history: History):
    bench.run(history.log)
    assert Calls(bench.store).call(UUID(int=7)) is None


def test_calls_are_paged_newest_first_and_filtered(bench: Bench, history: History):
    for number in range(7):
        history.call(("2001", "2002")[number % 2])
    bench.run(history.log)
    calls = Calls(bench.store)
    whole = calls.page(limit=100)
    assert len(whole.calls) == 7
    assert list(whole.calls) == sorted(
        whole.calls, key=lambda c: (c.received_at, c.call_id), reverse=True
    )
    first = calls.page(limit=4)
    rest = calls.page(limit=4, before=first.next_before)
    assert first.calls + rest.calls == whole.calls
    assert rest.next_before is None
    assert {c.called_extension for c in calls.page(extension="2002").calls} == {"2002"}
    middle = whole.calls[3].received_at
    since = calls.page(since=middle).calls
    until = calls.page(until=middle).calls
    assert since + until == whole.calls
    assert whole.calls[3] in since


# --- servers --------------------------------------------------------------------------


def test_a_peer_is_shown_in_its_last_recorded_state_since_when(bench: Bench, history: History):
    history.lose("bravo")
    history.lose("charlie")
    history.find("bravo")
    bench.run(history.log)
    bravo, charlie = Servers(bench.store).view().peers
    assert (bravo.peer, bravo.state) == ("bravo", PeerState.UP)
    assert (charlie.peer, charlie.state) == ("charlie", PeerState.DOWN)
    assert bravo.since is not None
    assert charlie.since is not None
    assert bravo.since > charlie.since > START
    assert charlie.evidence is not None


def test_the_newest_receipt_of_a_peer_is_shown(bench: Bench, history: History):
    history.migrate(history.call("2001", home="bravo"))
    position = history.position + 3
    history.migrate(history.call("2001", home="bravo"), safe_position=2)
    bench.run(history.log)
    (bravo,) = Servers(bench.store).view().peers
    assert (bravo.receipt_position, bravo.receipt_safe_position) == (position, 2)
    assert (bravo.migrated_count, bravo.peer_position) == (2, 100 + position)


def test_what_a_peer_handed_over_is_counted(bench: Bench, history: History):
    history.call("2001", taken_by="bravo")
    history.call("2001", taken_by="bravo")
    history.call("2001")
    bench.run(history.log)
    (bravo,) = Servers(bench.store).view().peers
    assert bravo.delivered_count == 2
    assert bravo.delivered_position > 0


def test_this_servers_starts_and_backups_are_shown(bench: Bench, history: History):
    history.start()
    history.back_up(1)
    history.start()
    bench.run(history.log)
    view = Servers(bench.store).view()
    assert [start.position for start in view.starts] == [3, 1]
    assert (view.own.safe_position, view.own.safe_place) == (1, "tape 7")
    assert view.position == history.position


def test_log_that_went_back_shows_what_came_back_and_what_nobody_knows(
    bench: Bench, history: History
):
    first, second = UUID(int=2), UUID(int=3)
    history.start()
    history.go_back(first)
    history.recall("bravo", first, known_until=900, events=7)
    history.go_back(second)
    noticed_at = history.position - 1
    history.recall("bravo", second, known_until=40, common_until=10, events=8, messages=2)
    history.recall("bravo", second, known_until=40, events=3, messages=1, is_complete=False)
    history.recall("charlie", second, known_until=20, common_until=12, events=2, not_taken=4)
    bench.run(history.log)
    found = Servers(bench.store).view().went_back(["delta", "charlie", "bravo"])
    assert found is not None
    assert (found.position, found.reason) == (noticed_at, "server bravo knows more")
    assert (found.missing_after, found.known_until) == (12, 40)
    assert (found.events_back, found.messages_back, found.not_taken) == (13, 3, 4)
    assert found.lost_events == 40 - 12 - 13 - 4
    assert found.waiting_for == ("bravo", "delta")


def test_log_that_never_went_back_says_nothing_of_it(bench: Bench, history: History):
    history.start()
    bench.run(history.log)
    assert Servers(bench.store).view().went_back(["bravo"]) is None


def test_an_empty_log_shows_this_server_and_no_other(bench: Bench, history: History):
    bench.run(history.log)
    view = Servers(bench.store).view()
    assert (view.own.server, view.peers, view.starts) == ("alpha", (), ())
