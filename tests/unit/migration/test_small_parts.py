"""Safe positions and the rule for freeing audio."""

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.migration.deliveries import is_releasable
from ledger.migration.safe_positions import SafePositions
from tests.support.sites import START

ALPHA = ("alpha", UUID(int=1))


def test_nothing_is_safe_before_a_backup():
    safe = SafePositions()
    safe.note(ALPHA, 10, 100)
    assert safe.of(ALPHA) == 0


def test_backup_makes_safe_what_was_taken_in_by_then():
    safe = SafePositions()
    for here, there in ((10, 100), (20, 200), (30, 300)):
        safe.note(ALPHA, here, there)
    safe.backup_verified(25)
    assert safe.of(ALPHA) == 200
    safe.backup_verified(30)
    assert safe.of(ALPHA) == 300


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4000), st.integers(0, 20_000))
def test_safe_position_never_overstates(steps, backup):
    safe, here, there, truth = SafePositions(), 0, 0, 0
    for one in steps:
        here, there = here + one, there + 2 * one
        safe.note(ALPHA, here, there)
        truth = there if here <= backup else truth
    safe.backup_verified(backup)
    assert safe.of(ALPHA) <= truth


@pytest.mark.parametrize(
    ("migrated_days_ago", "safe_position", "answer"),
    [(None, 100, False), (1, 9, False), (1, 10, True), (31, 0, True)],
)
def test_audio_is_freed_when_safe_or_after_its_time_but_never_before_arrival(
    migrated_days_ago, safe_position, answer
):
    at = None if migrated_days_ago is None else START - timedelta(days=migrated_days_ago)
    found = is_releasable(
        position=10,
        migrated_at=at,
        safe_position=safe_position,
        now=START,
        keep_for=timedelta(days=30),
    )
    assert found is answer
