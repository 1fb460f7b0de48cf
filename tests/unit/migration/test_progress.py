"""An origin's hint about a peer goes back when the peer does, and stays so over a restart."""

import asyncio
import random
from uuid import UUID

import pytest

from ledger.errors import TransientError
from ledger.migration.progress import Progress
from ledger.storage.peer_cursors import MemoryCursorStore, PeerCursor
from tests.support.sites import SETTINGS, InPlace, VirtualClock

INCARNATION = UUID(int=1)


class FullDisk(MemoryCursorStore):
    """Saves nothing while it is full."""

    is_full = False

    def save(self, cursor: PeerCursor) -> None:
        if self.is_full:
            raise TransientError("the disk is full")
        super().save(cursor)


def progress(store: MemoryCursorStore) -> Progress:
    return Progress(
        "bravo",
        cursors=store,
        clock=VirtualClock(),
        offload=InPlace(),
        rng=random.Random(1),
        settings=SETTINGS,
    )


def saved_at(position: int) -> FullDisk:
    store = FullDisk()
    store.save(PeerCursor("bravo", INCARNATION, position, 0, None))
    return store


def test_peer_that_went_back_is_asked_again_from_there_also_after_a_restart():
    async def main():
        store = saved_at(9)
        running = progress(store)
        await running.load()
        assert await running.resume(INCARNATION, 4) == 4
        restarted = progress(store)
        await restarted.load()
        assert await restarted.resume(INCARNATION, 7) == 4

    asyncio.run(main())


def test_nothing_is_sent_again_before_the_lower_hint_is_on_disk():
    async def main():
        store = saved_at(9)
        running = progress(store)
        await running.load()
        store.is_full = True
        for _ in range(2):
            with pytest.raises(TransientError):
                await running.resume(INCARNATION, 4)
        store.is_full = False
        assert await running.resume(INCARNATION, 4) == 4
        cursor = store.load("bravo")
        assert cursor is not None
        assert cursor.position == 4

    asyncio.run(main())
