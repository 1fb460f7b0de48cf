"""An origin's hint about a peer goes back when the peer does, also after a restart."""

import asyncio
import random
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from ledger.events import Receipt
from ledger.migration.progress import Progress
from ledger.storage.peer_cursors import MAX_MARKS, MemoryCursorStore
from tests.support.sites import SETTINGS, InPlace, VirtualClock

INCARNATION = UUID(int=1)


def progress(store: MemoryCursorStore) -> Progress:
    return Progress(
        "bravo",
        cursors=store,
        clock=VirtualClock(),
        offload=InPlace(),
        rng=random.Random(1),
        settings=SETTINGS,
    )


def receipt(origin_position: int, home_position: int) -> Receipt:
    return Receipt(
        origin="alpha",
        origin_incarnation=INCARNATION,
        origin_position=origin_position,
        origin_root="a" * 64,
        home="bravo",
        home_incarnation=UUID(int=2),
        home_position=home_position,
        home_root=f"{home_position:064x}",
        safe_position=0,
        issued_at=datetime(2026, 1, 1, tzinfo=UTC),
        signature="",
    )


async def with_receipts(store: MemoryCursorStore, through: Iterable[int]) -> Progress:
    running = progress(store)
    running.resume(INCARNATION, 0, 0)
    for position in through:
        await running.settled(position, receipt(position, 100 + position))
    await running.save()
    return running


def test_what_a_lost_receipt_stood_for_is_sent_again_though_the_home_tracks_more():
    async def main():
        store = MemoryCursorStore()
        await with_receipts(store, (3, 6, 9))
        running = progress(store)
        await running.load()
        assert [mark.home_position for mark in running.marks] == [103, 106, 109]
        assert running.resume(INCARNATION, 9, 2) == 6
        assert [mark.origin_position for mark in running.marks] == [3, 6]
        restarted = progress(store)
        await restarted.load()
        assert restarted.resume(INCARNATION, 9, 2) == 6
        assert restarted.resume(INCARNATION, 9, 0) == 0

    asyncio.run(main())


def test_marks_above_what_the_home_tracks_are_dropped():
    async def main():
        running = await with_receipts(MemoryCursorStore(), (3, 6, 9))
        assert running.resume(INCARNATION, 7, 3) == 7
        assert [mark.origin_position for mark in running.marks] == [3, 6]

    asyncio.run(main())


def test_marks_of_another_incarnation_of_our_log_mean_nothing():
    async def main():
        running = await with_receipts(MemoryCursorStore(), (3, 6, 9))
        assert running.resume(UUID(int=8), 0, 3) == 0
        assert running.marks == ()

    asyncio.run(main())


def test_home_is_asked_before_the_marks_are_too_many_and_few_are_kept_then():
    async def main():
        running = await with_receipts(MemoryCursorStore(), range(1, 64))
        assert not running.must_ask
        await running.settled(64, receipt(64, 164))
        assert running.must_ask
        assert len(running.marks) <= MAX_MARKS - 16, "those in flight find room"
        assert running.resume(INCARNATION, 64, 64) == 64
        assert not running.must_ask
        kept = [mark.origin_position for mark in running.marks]
        assert len(kept) <= 8
        assert kept[0] == 1
        assert kept[-4:] == [61, 62, 63, 64]

    asyncio.run(main())
