"""Get the blobs that a copied log names.

Source: claims 5 and 10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ledger.errors import PeerError
from ledger.migration.log_source import LogSource, LogTarget
from ledger.migration.wire import MAX_DIGESTS
from ledger.offload import Offload
from ledger.storage.blob_store import NewBlob
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


async def fetch_blobs(
    source: LogSource,
    target: LogTarget,
    digests: dict[str, bool],
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
        left = list(part)
        async with gate:
            while left:
                answer = await source.blobs(target.of, left)
                if not answer.blobs and not answer.absent:
                    raise PeerError("it answers for none of the blobs", peer=source.name)
                packed = [NewBlob(d, b) for d, b in answer.blobs.items() if not digests[d]]
                locations.extend(await offload(partial(target.blobs.put_pack, packed)))
                for digest in answer.blobs.keys() - {blob.digest for blob in packed}:
                    await offload(partial(target.blobs.put, digest, answer.blobs[digest]))
                done.blobs += len(answer.blobs)
                done.bytes += sum(len(data) for data in answer.blobs.values())
                done.absent.extend(answer.absent)
                left = [d for d in left if d not in answer.blobs and d not in answer.absent]

    size = min(_QUESTION_BLOBS, MAX_DIGESTS)
    parts = [missing[at : at + size] for at in range(0, len(missing), size)]
    tasks = [asyncio.create_task(get(part)) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return locations


def _missing(target: LogTarget, digests: Sequence[str]) -> list[str]:
    packed = target.recorder.locate_blobs(digests)
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
    await fetch_blobs(source, target, dict.fromkeys(wanted, True), offload, done)
    return done.absent
