"""Get the blobs that a copied log names.

Source: claims 5 and 10.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from ledger.errors import PeerError
from ledger.events import ServerId
from ledger.migration.log_source import LogSource, LogTarget
from ledger.migration.wire import MAX_DIGESTS
from ledger.offload import Offload
from ledger.storage.blob_care import packed_here
from ledger.storage.blob_store import BlobStore, NewBlob
from ledger.storage.event_log import BlobLocation

_QUESTION_BLOBS: Final = 400
"""Blobs asked for in one question; the answer is bounded in bytes."""
_MANY: Final = 256
"""For so many blobs it is quicker to list all that are there than to ask for each."""
_QUESTIONS: Final = 2
"""Questions for blobs on their way at a time: one is read here while the next is read there."""


@dataclass(slots=True)
class Fetched:
    """What a run has brought."""

    events: int = 0
    blobs: int = 0
    bytes: int = 0
    """Of the blobs."""
    absent: list[str] = field(default_factory=list)
    """Blobs that the events name and the source has not, or not any more."""
    is_cut: bool = False
    """Is there an event behind these that was recorded later than the last one wanted?"""


@dataclass(slots=True)
class Carried:
    """What became of some blobs that were asked for."""

    blobs: int = 0
    bytes: int = 0
    locations: list[BlobLocation] = field(default_factory=list)
    """Of those that lie in packs now."""
    absent: list[str] = field(default_factory=list)
    """Those that the source has not."""


class BlobCarrier(Protocol):
    """Brings blobs from where a log is copied from to where it is copied to."""

    async def carry(self, digests: Mapping[str, bool]) -> Carried:
        """Get all of these; durable on return. ``True``: keep it alone, in no pack.

        Errors are those of a `LogSource` and of a `BlobStore`.
        """


class DirectCarrier:
    """A `BlobCarrier` that does it in this process."""

    def __init__(self, source: LogSource, of: ServerId, blobs: BlobStore, offload: Offload) -> None:
        self._source = source
        self._of = of
        self._blobs = blobs
        self._offload = offload

    async def carry(self, digests: Mapping[str, bool]) -> Carried:
        carried = Carried()
        left = list(digests)
        while left:
            answer = await self._source.blobs(self._of, left)
            if not answer.blobs and not answer.absent:
                raise PeerError("it answers for none of the blobs", peer=self._source.name)
            packed = [NewBlob(d, b) for d, b in answer.blobs.items() if not digests[d]]
            carried.locations += await self._offload(partial(self._blobs.put_pack, packed))
            for digest in answer.blobs.keys() - {blob.digest for blob in packed}:
                await self._offload(partial(self._blobs.put, digest, bytes(answer.blobs[digest])))
            carried.blobs += len(answer.blobs)
            carried.bytes += sum(len(data) for data in answer.blobs.values())
            carried.absent += answer.absent
            left = [d for d in left if d not in answer.blobs and d not in answer.absent]
        return carried


async def fetch_blobs(
    carrier: BlobCarrier,
    target: LogTarget,
    digests: Mapping[str, bool],
    offload: Offload,
    done: Fetched,
) -> list[BlobLocation]:
    """Get those of these blobs that are not held; durable on return. Gives where the packs lie.

    What PINs are checked against (``True``) is kept each alone: it must go when a PIN is changed.
    """
    missing = await offload(partial(_missing, target, list(digests)))
    gate = asyncio.Semaphore(_QUESTIONS)
    locations: list[BlobLocation] = []

    async def get(part: Sequence[str]) -> None:
        async with gate:
            carried = await carrier.carry({digest: digests[digest] for digest in part})
        locations.extend(carried.locations)
        done.blobs += carried.blobs
        done.bytes += carried.bytes
        done.absent += carried.absent

    tasks = [asyncio.create_task(get(part)) for part in _parts(missing)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return locations


def _parts(digests: Sequence[str]) -> list[Sequence[str]]:
    """Divide them into questions: one, or full rounds of some that are of one size."""
    if not digests:
        return []
    count = math.ceil(len(digests) / min(_QUESTION_BLOBS, MAX_DIGESTS))
    if count > 1:
        count = math.ceil(count / _QUESTIONS) * _QUESTIONS
    size = math.ceil(len(digests) / count)
    return [digests[at : at + size] for at in range(0, len(digests), size)]


def _missing(target: LogTarget, digests: Sequence[str]) -> list[str]:
    packed = packed_here(target.blobs, target.recorder.locate_blobs(digests))
    unpacked = [d for d in digests if d not in packed]
    seen = set(unpacked)
    if len(digests) >= _MANY:
        seen &= {blob.digest for blob in target.blobs.list_loose()}
    # What is only seen may be gone after a power cut; what the store has is durable.
    return [d for d in unpacked if d not in seen or not target.blobs.has(d)]


async def complete(
    source: LogSource, target: LogTarget, needed: Iterable[str], offload: Offload
) -> list[str]:
    """Get needed blobs that are not held, each kept alone; gives those that are still missing."""
    wanted = await offload(partial(_missing, target, sorted(needed)))
    done = Fetched()
    carrier = DirectCarrier(source, target.of, target.blobs, offload)
    await fetch_blobs(carrier, target, dict.fromkeys(wanted, True), offload, done)
    return done.absent
