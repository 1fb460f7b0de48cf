"""The tables of the protocol: every pair, every path, and the rules of contact."""

from itertools import product
from uuid import UUID

import pytest

from ledger.migration.protocol import (
    HOME_TABLE,
    LIVE_FOR_S,
    ORIGIN_TABLE,
    PAUSES,
    SIGNALS,
    Action,
    BatchRelation,
    HomeAction,
    OriginInput,
    OriginState,
    OwnLog,
    ProtocolDefectError,
    Step,
    judge_contact,
    relate,
    step,
)
from ledger.migration.wire import BatchHeader, TrackedRow

NOW, OLD, STRANGE = UUID(int=1), UUID(int=2), UUID(int=3)
ROOT, OTHER = "a" * 64, "b" * 64
OWN = OwnLog(NOW, 100, frozenset({NOW, OLD}))
FAILURES = {
    OriginInput.GAP,
    OriginInput.BUSY,
    OriginInput.REFUSED_VERSION,
    OriginInput.REJECTED,
    OriginInput.UNREACHABLE,
    OriginInput.LOCAL_TROUBLE,
}


def row(incarnation=NOW, position=50, root=ROOT, seen_s_ago=None) -> TrackedRow:
    return TrackedRow(incarnation=incarnation, position=position, root=root, seen_s_ago=seen_s_ago)


@pytest.mark.parametrize(("state", "given"), list(product(OriginState, OriginInput)))
def test_every_pair_leads_somewhere_or_is_said_to_be_impossible(state, given):
    if (state, given) in ORIGIN_TABLE:
        assert step(state, given) is ORIGIN_TABLE[state, given]
    elif given in SIGNALS:
        assert step(state, given) == Step(state)
    else:
        with pytest.raises(ProtocolDefectError):
            step(state, given)


@pytest.mark.parametrize("state", list(OriginState))
def test_every_state_leads_back_to_streaming(state):
    reached, ahead = set(), {state}
    while ahead:
        reached |= ahead
        ahead = {found.next for (at, _), found in ORIGIN_TABLE.items() if at in ahead} - reached
    assert OriginState.STREAMING in reached


def test_no_circle_without_a_pause_or_progress():
    moves = {
        (state, found.next)
        for (state, given), found in ORIGIN_TABLE.items()
        if state not in PAUSES and given is not OriginInput.ACKNOWLEDGED
    }
    for state in set(OriginState) - PAUSES:
        reached, ahead = set(), {state}
        while ahead:
            ahead = {after for before, after in moves if before in ahead} - reached
            reached |= ahead
        assert state not in reached, f"{state} can come back to itself at full speed"


@pytest.mark.parametrize("state", [OriginState.CONTACTING, OriginState.STREAMING])
def test_every_failure_drops_what_is_in_flight_and_pauses(state):
    for given in FAILURES & {g for s, g in ORIGIN_TABLE if s is state}:
        found = step(state, given)
        assert found.next in PAUSES
        assert Action.DROP_IN_FLIGHT in found.actions
        assert {Action.BACK_OFF, Action.WAIT_AS_TOLD} & set(found.actions)


def test_pause_that_the_peer_asked_for_is_kept_whatever_happens():
    for given in SIGNALS:
        assert step(OriginState.WAITING, given) == Step(OriginState.WAITING)


def test_halted_worker_is_woken_by_nothing_but_time():
    for given in SIGNALS:
        assert step(OriginState.HALTED, given) == Step(OriginState.HALTED)


def test_first_contact_begins_at_the_beginning():
    judged = judge_contact(OWN, [], None)
    assert (judged.verdict, judged.position) == (OriginInput.AGREED, 0)


@pytest.mark.parametrize("position", [0, 1, 50, 100])
def test_equal_hash_resumes_where_the_home_is(position):
    judged = judge_contact(OWN, [row(position=position)], ROOT)
    assert (judged.verdict, judged.position) == (OriginInput.AGREED, position)


def test_another_hash_means_that_our_log_went_back():
    assert judge_contact(OWN, [row()], OTHER).verdict is OriginInput.LOG_WENT_BACK


def test_position_beyond_our_log_means_that_it_went_back():
    judged = judge_contact(OWN, [row(position=101)], None)
    assert judged.verdict is OriginInput.LOG_WENT_BACK


def test_older_incarnation_of_ours_is_no_surprise():
    judged = judge_contact(OWN, [row(OLD, 900)], None)
    assert (judged.verdict, judged.position) == (OriginInput.AGREED, 0)


def test_incarnation_that_we_forgot_means_that_our_log_went_back():
    judged = judge_contact(OWN, [row(STRANGE), row()], ROOT)
    assert judged.verdict is OriginInput.LOG_WENT_BACK
    assert judged.strangers == (STRANGE,)


def test_forgotten_incarnation_under_which_somebody_speaks_is_a_clone():
    rows = [row(STRANGE, seen_s_ago=LIVE_FOR_S - 1), row()]
    assert judge_contact(OWN, rows, ROOT).verdict is OriginInput.CLONE_SEEN


def test_forgotten_incarnation_that_fell_silent_is_no_clone():
    rows = [row(STRANGE, seen_s_ago=LIVE_FOR_S + 1), row()]
    assert judge_contact(OWN, rows, ROOT).verdict is OriginInput.LOG_WENT_BACK


def test_incarnation_that_we_left_and_that_came_back_to_the_top_calls_for_a_new_one():
    """A home that was restored took a late frame of it in; it would answer with gaps for ever."""
    assert judge_contact(OWN, [row(OLD), row()], ROOT).verdict is OriginInput.LOG_WENT_BACK


def test_strange_incarnation_that_ours_has_superseded_does_not_matter():
    rows = [row(), row(STRANGE, seen_s_ago=1)]
    assert judge_contact(OWN, rows, ROOT).verdict is OriginInput.AGREED


def header(after, through, root=ROOT, incarnation=NOW, after_root=ROOT) -> BatchHeader:
    return BatchHeader(
        origin="alpha",
        home="bravo",
        incarnation=incarnation,
        contact="n",
        after_position=after,
        after_root=after_root,
        through_position=through,
        through_root=root,
    )


@pytest.mark.parametrize(
    ("rows", "batch", "relation"),
    [
        ([], header(0, 10), BatchRelation.NEXT),
        ([], header(1, 10), BatchRelation.AHEAD),
        ([row()], header(50, 60), BatchRelation.NEXT),
        ([row()], header(40, 60), BatchRelation.NEXT),
        ([row()], header(51, 60), BatchRelation.AHEAD),
        ([row()], header(0, 20), BatchRelation.REPLAY),
        ([row()], header(40, 50), BatchRelation.REPLAY),
        ([row()], header(40, 50, OTHER), BatchRelation.FORKED),
        ([row()], header(50, 60, after_root=OTHER), BatchRelation.FORKED),
        ([row()], header(40, 60, after_root=OTHER), BatchRelation.NEXT),
        ([row(OLD), row()], header(50, 60), BatchRelation.SUPERSEDED),
        ([row(OLD)], header(0, 60), BatchRelation.NEXT),
    ],
)
def test_home_knows_how_a_batch_stands_to_what_it_has(rows, batch, relation):
    assert relate(rows, batch) is relation


@pytest.mark.parametrize("batch", [header(0, 20), header(50, 60), header(51, 60)])
def test_batch_that_was_not_sent_after_the_last_contact_is_overtaken_whatever_it_holds(batch):
    assert relate([row()], batch, is_overtaken=True) is BatchRelation.OVERTAKEN
    assert HOME_TABLE[BatchRelation.OVERTAKEN] is HomeAction.ANSWER_GAP


def test_home_acts_on_every_relation_and_skips_nothing():
    assert set(HOME_TABLE) == set(BatchRelation)
    takes_in = {r for r, action in HOME_TABLE.items() if action is HomeAction.TAKE_IN}
    assert takes_in == {BatchRelation.NEXT}
