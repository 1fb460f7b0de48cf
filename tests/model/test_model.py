"""Every moment that two servers can get into, within small bounds, keeps the promises.

And the exploration is not blind: with one rule made wrong it finds what that breaks. The larger
bounds are explored by ``make model``.
"""

from dataclasses import replace
from typing import Any

import pytest

from ledger.migration import protocol
from ledger.migration.protocol import (
    HOME_TABLE,
    BatchRelation,
    HomeAction,
    Judgement,
    OriginInput,
    OriginState,
    Step,
)
from tests.model.explore import explore
from tests.model.servers import Bounds, Rules

CRASHES = Bounds(messages=2, crashes=2, losses=1, repeats=1)
HOME_RESTORED = Bounds(messages=2, crashes=0, losses=1, repeats=0, restores_home=1)
ORIGIN_RESTORED = Bounds(messages=2, crashes=0, losses=1, repeats=0, restores_origin=1)
BOTH_RESTORED = replace(HOME_RESTORED, restores_origin=1)


@pytest.mark.parametrize("bounds", [CRASHES, HOME_RESTORED, ORIGIN_RESTORED, BOTH_RESTORED])
def test_every_moment_keeps_the_promises_and_leads_on_to_the_end(bounds):
    explored = explore(Rules(), bounds)
    assert not explored.problem, explored.tell()
    assert explored.moments > 1000


def changed(table: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    return {**table, key: value}


def step_with(state: OriginState, given: OriginInput, found: Step):
    """The worker's table with one entry made wrong."""

    def step(now: OriginState, what: OriginInput) -> Step:
        return found if (now, what) == (state, given) else protocol.step(now, what)

    return step


def judge_without_roots(own, rows, root):
    """Positions are compared, tree hashes are not."""
    mine = protocol.tracked_of(rows, own.incarnation)
    return protocol.judge_contact(own, rows, mine.root if mine is not None else root)


def judge_that_believes_in_no_rollback(own, rows, root):
    found = protocol.judge_contact(own, rows, root)
    if found.verdict is not OriginInput.LOG_WENT_BACK:
        return found
    mine = protocol.tracked_of(rows, own.incarnation)
    return Judgement(OriginInput.AGREED, min(mine.position, own.position) if mine else 0)


def relate_without(*forgotten: BatchRelation):
    """A home that does not notice some relations."""

    def relate(rows, header):
        found = protocol.relate(rows, header)
        return BatchRelation.NEXT if found in forgotten else found

    return relate


@pytest.mark.parametrize(
    ("rules", "bounds", "problem"),
    [
        pytest.param(
            Rules(home_table=changed(HOME_TABLE, BatchRelation.AHEAD, HomeAction.TAKE_IN)),
            CRASHES,
            "lacks one of",
            id="a gap is skipped",
        ),
        pytest.param(Rules(resume=max), HOME_RESTORED, "nothing leads on", id="cursor trusted"),
        pytest.param(Rules(skips_held=False), CRASHES, "twice", id="a duplicate is taken again"),
        pytest.param(
            Rules(commits_before_it_answers=False),
            CRASHES,
            "holds a receipt for",
            id="receipt before the commit",
        ),
        pytest.param(
            Rules(judge=judge_without_roots),
            ORIGIN_RESTORED,
            "nothing leads on",
            id="roots are not compared",
        ),
        pytest.param(
            Rules(judge=judge_that_believes_in_no_rollback),
            ORIGIN_RESTORED,
            "nothing leads on",
            id="no new incarnation",
        ),
        pytest.param(
            Rules(relate=relate_without(BatchRelation.FORKED)),
            replace(ORIGIN_RESTORED, messages=3),
            "lacks one of",
            id="a late frame of another history is taken in",
        ),
        pytest.param(
            Rules(step=step_with(OriginState.IDLE, OriginInput.TIMER, Step(OriginState.IDLE))),
            HOME_RESTORED,
            "nothing leads on",
            id="an idle peer is not asked",
        ),
    ],
)
def test_rule_that_is_wrong_is_found(rules, bounds, problem):
    found = explore(rules, bounds)
    assert problem in found.problem, found.tell()
    assert found.story
