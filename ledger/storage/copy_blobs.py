"""Copy blobs from one store to another, many in one pack: one sync for hundreds of them.

Source: claim 10.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ledger.errors import CorruptionError, NotFoundError, TransientError
from ledger.storage.blob_store import BlobStore, NewBlob
from ledger.storage.event_log import BlobLocation

_GROUP_BLOBS: Final = 256
_PACK_BYTES: Final = 16 * 1024 * 1024
_READ_BYTES: Final = 8 * 1024 * 1024

_Item = TypeVar("_Item")


@dataclass(slots=True)
class CopiedBlobs:
    """What was copied, and what could not be."""

    locations: list[BlobLocation] = field(default_factory=list)
    """Where the copied blobs lie in the store that they were copied to."""
    size_bytes: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    """Blobs that are absent or rotten where they should be: digest → what is wrong."""


def copy_blobs(
    digests: Iterable[str],
    source: BlobStore,
    locations: Mapping[str, BlobLocation],
    target: BlobStore,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> CopiedBlobs:
    """Copy these blobs; durable on return. Each is held against its address while it is read.

    ``locations`` are those of the blobs that lie in packs of the source: what lies together there
    is read together. One such read and one new pack are in memory at a time. Raises TransientError
    when one of the stores cannot be used now.
    """
    done = CopiedBlobs()
    seen = 0
    blobs = _read(digests, source, locations, done)
    for pack in _groups(blobs, lambda blob: len(blob.data), _PACK_BYTES):
        done.locations += target.put_pack(pack)
        done.size_bytes += sum(len(blob.data) for blob in pack)
        seen += len(pack)
        on_progress(seen)
    return done


def keep_anew(
    digests: Iterable[str],
    blobs: BlobStore,
    locations: Mapping[str, BlobLocation],
    *,
    alone: Collection[str] = (),
) -> list[BlobLocation]:
    """Write blobs once more that are here and that events are about to name; durable on return.

    Nothing may have needed them until now: a `gc` that has read what is needed drops old ones, and
    spares these. Gives where those that lay in packs lie now, to be committed with the events; but
    each of ``alone`` becomes a loose one. Raises TransientError when one was dropped in this very
    moment; rotten ones stay as they are.
    """
    digests = list(digests)
    packed = [d for d in digests if d in locations and d not in alone]
    copied = copy_blobs(packed, blobs, locations, blobs)
    moved = {location.digest for location in copied.locations}
    for digest in digests:
        if digest in moved:
            continue
        try:
            blobs.put(digest, blobs.get(digest, locations.get(digest)))
        except CorruptionError:
            continue  # It was here as it is, and `verify` tells of it.
        except NotFoundError as error:
            raise TransientError(f"blob {digest} was being dropped; ask for it again") from error
    return copied.locations


def _read(
    digests: Iterable[str],
    source: BlobStore,
    locations: Mapping[str, BlobLocation],
    done: CopiedBlobs,
) -> Iterator[NewBlob]:
    """Give the loose ones, then pack by pack what lies in it, as much at once as memory allows."""
    packs: dict[str, list[BlobLocation]] = {}
    for digest in digests:
        if (location := locations.get(digest)) is not None:
            packs.setdefault(location.pack, []).append(location)
        else:
            yield from _read_one(digest, None, source, done)
    for inside in packs.values():
        inside.sort(key=lambda location: location.offset_bytes)
        for group in _groups(inside, lambda location: location.length_bytes, _READ_BYTES):
            found = source.get_many(group)
            for location in group:
                if (data := found.pop(location.digest, None)) is not None:
                    yield NewBlob(location.digest, data)
                else:
                    yield from _read_one(location.digest, location, source, done)


def _read_one(
    digest: str, location: BlobLocation | None, source: BlobStore, done: CopiedBlobs
) -> Iterator[NewBlob]:
    try:
        yield NewBlob(digest, source.get(digest, location))
    except (NotFoundError, CorruptionError) as error:
        done.unreadable[digest] = str(error)


def _groups(
    items: Iterable[_Item], size_of: Callable[[_Item], int], most_bytes: int
) -> Iterator[list[_Item]]:
    group: list[_Item] = []
    size_bytes = 0
    for item in items:
        group.append(item)
        size_bytes += size_of(item)
        if len(group) == _GROUP_BLOBS or size_bytes >= most_bytes:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group
