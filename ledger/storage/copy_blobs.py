"""Copy blobs from one store to another, many in one pack: one sync for hundreds of them.

Source: claim 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ledger.errors import CorruptionError, NotFoundError
from ledger.storage.blob_store import BlobStore, NewBlob
from ledger.storage.event_log import BlobLocation

_PACK_BLOBS: Final = 256
_PACK_BYTES: Final = 16 * 1024 * 1024


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

    ``locations`` are those of the blobs that lie in packs of the source. Raises TransientError when
    one of the stores cannot be used now.
    """
    done = CopiedBlobs()
    seen = 0
    for pack in _packs(_read(digests, source, locations, done)):
        done.locations += target.put_pack(pack)
        done.size_bytes += sum(len(blob.data) for blob in pack)
        seen += len(pack)
        on_progress(seen)
    return done


def _read(
    digests: Iterable[str],
    source: BlobStore,
    locations: Mapping[str, BlobLocation],
    done: CopiedBlobs,
) -> Iterator[NewBlob]:
    for digest in digests:
        try:
            yield NewBlob(digest, source.get(digest, locations.get(digest)))
        except (NotFoundError, CorruptionError) as error:
            done.unreadable[digest] = str(error)


def _packs(blobs: Iterable[NewBlob]) -> Iterator[list[NewBlob]]:
    pack: list[NewBlob] = []
    size_bytes = 0
    for blob in blobs:
        pack.append(blob)
        size_bytes += len(blob.data)
        if len(pack) == _PACK_BLOBS or size_bytes >= _PACK_BYTES:
            yield pack
            pack, size_bytes = [], 0
    if pack:
        yield pack
