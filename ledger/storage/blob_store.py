"""Audio at rest, as a port: content-addressed, durable before it is named, verified when read.

A blob is the *stored form* of a recording: one zstd skippable frame with metadata, then one
checksummed zstd frame a second of audio; ``zstd -dc`` gives the received bytes back. Its address is
the SHA-256 of the stored form, so ``sha256sum`` of a loose file prints the file's own name. The
digest of the *received* bytes stands in the event beside it.

What was recorded here is a loose blob; what arrived from a peer in one batch is a pack: one file,
one sync, and the places inside it (`BlobLocation`) are committed with the events.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from ledger.errors import CorruptionError, NotFoundError
from ledger.storage.event_log import BlobLocation

_RUN_BYTES: Final = 8 * 1024 * 1024
"""Most that one read brings into memory, but for a single larger blob."""


BlobBytes: TypeAlias = bytes | memoryview
"""The bytes of a blob, or where they lie within what was read or received with others at once."""


@dataclass(frozen=True, slots=True)
class NewBlob:
    """A stored form on its way into a pack."""

    digest: str
    data: BlobBytes


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A loose blob as `BlobStore.list_loose` finds it."""

    digest: str
    size_bytes: int
    age_s: float
    """Seconds since it was last written."""


class BlobStore(Protocol):
    """Where stored forms live. Methods are synchronous and may be called from any thread.

    Errors of all methods: TransientError when the store cannot work now (disk full, S3 away), and
    nothing was changed then; NotFoundError for an absent blob; CorruptionError for one whose bytes
    are not those of its address.
    """

    def put(self, digest: str, data: bytes) -> None:
        """Keep a loose blob; durable on return. Idempotent. Checks the digest first.

        A blob that is there already counts as written now (`StoredBlob.age_s`), and is replaced
        when it has rotted. Raises CorruptionError when ``data`` is not what ``digest`` names.
        """

    def put_file(self, digest: str, path: Path) -> None:
        """Keep a finished file as a loose blob; durable on return. Idempotent. Checks the digest.

        The file stays where it is (a store of files on the same file system shares its bytes, so
        nothing is copied). Drop it only after the events that name the blob are committed: until
        then it is what a restart finds and recovers the message from.
        """

    def put_pack(self, blobs: Sequence[NewBlob]) -> list[BlobLocation]:
        """Keep blobs in one new pack; durable on return.

        Until their locations are committed with events the pack is an orphan that `gc` may drop,
        once it is old enough. Digests must have been checked by the caller.
        """

    def get(self, digest: str, location: BlobLocation | None = None) -> bytes:
        """Read a whole stored form and verify it against its address.

        Looks where ``location`` says, then among the loose blobs, so that a loose copy brought in
        from elsewhere heals a lost or rotten pack.
        """

    def get_many(
        self, locations: Sequence[BlobLocation], *, is_verified: bool = True
    ) -> dict[str, BlobBytes]:
        """Read many packed blobs and verify each; those that cannot be had so are left out.

        What lies together is read together, where the store can do that. `get` says of one that is
        left out what is wrong with it, or finds it loose. ``is_verified=False`` leaves it to the
        caller to hold each against its address.
        """

    def has(self, digest: str) -> bool:
        """Is there a loose blob of this address, durably? (Packed ones are in the log's index.)"""

    def list_loose(self) -> Iterator[StoredBlob]:
        """List all loose blobs, in no particular order."""

    def list_packs(self) -> Iterator[StoredBlob]:
        """List all packs; ``digest`` is the pack's name here."""

    def delete(self, digest: str) -> None:
        """Drop a loose blob; absent is fine. A reader that has it open is not disturbed."""

    def delete_pack(self, pack: str) -> None:
        """Drop a whole pack; absent is fine. A reader that has it open is not disturbed."""


def check_digest(digest: str, data: BlobBytes, place: str) -> None:
    """Raise CorruptionError unless ``data`` is what ``digest`` names."""
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise CorruptionError(
            f"the bytes of blob {digest} are not those of its address",
            place=place,
            expected=digest,
            found=found,
            advice="restore this blob from a backup or from another server that holds it",
        )


def get_together(
    read: Callable[[str, int, int], bytes], locations: Sequence[BlobLocation], *, is_verified: bool
) -> dict[str, BlobBytes]:
    """Be `BlobStore.get_many` for a store where one long read costs less than many short ones.

    ``read`` gives bytes of a pack, by its name, an offset and a length: perhaps fewer; it raises
    FileNotFoundError when there is no such pack.
    """
    packs: dict[str, list[BlobLocation]] = {}
    for location in locations:
        packs.setdefault(location.pack, []).append(location)
    found: dict[str, BlobBytes] = {}
    for pack, inside in packs.items():
        for run in _runs(inside):
            start = run[0].offset_bytes
            with contextlib.suppress(FileNotFoundError):
                data = read(pack, start, run[-1].offset_bytes + run[-1].length_bytes - start)
                blobs = _cut(run, memoryview(data))
                found.update(filter(_is_right, blobs) if is_verified else blobs)
    return found


def _runs(locations: Sequence[BlobLocation]) -> Iterator[list[BlobLocation]]:
    """Divide the blobs of one pack into runs that lie end to end."""
    run: list[BlobLocation] = []
    size_bytes = 0
    for location in sorted(locations, key=lambda one: one.offset_bytes):
        follows = run and run[-1].offset_bytes + run[-1].length_bytes == location.offset_bytes
        if run and (not follows or size_bytes >= _RUN_BYTES):
            yield run
            run, size_bytes = [], 0
        run.append(location)
        size_bytes += location.length_bytes
    if run:
        yield run


def _cut(run: Sequence[BlobLocation], data: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Give those blobs of a run that are there in their whole length."""
    start = run[0].offset_bytes
    for location in run:
        at = location.offset_bytes - start
        if at + location.length_bytes <= len(data):
            yield location.digest, data[at : at + location.length_bytes]


def _is_right(blob: tuple[str, BlobBytes]) -> bool:
    """Is it what it is called?"""
    digest, data = blob
    return hashlib.sha256(data).hexdigest() == digest


def pack_up(blobs: Sequence[NewBlob]) -> tuple[str, bytes, list[BlobLocation]]:
    """Lay blobs end to end: the pack's name, its bytes, and where each blob lies.

    The name is the SHA-256 of the blobs' addresses, one behind the other: they tell all its bytes.
    """
    data = b"".join(blob.data for blob in blobs)
    name = hashlib.sha256("".join(blob.digest for blob in blobs).encode()).hexdigest()
    locations: list[BlobLocation] = []
    offset_bytes = 0
    for blob in blobs:
        locations.append(BlobLocation(blob.digest, name, offset_bytes, len(blob.data)))
        offset_bytes += len(blob.data)
    return name, data, locations


def packed_or_loose(packed: Callable[[], bytes], loose: Callable[[], bytes]) -> bytes:
    """Read from the pack, else the loose copy; the pack's error when there is none either."""
    try:
        return packed()
    except (NotFoundError, CorruptionError) as packed_error:
        try:
            return loose()
        except (NotFoundError, CorruptionError):
            raise packed_error from None


def not_found(digest: str, place: str) -> NotFoundError:
    """Make the error for a blob that is absent."""
    return NotFoundError(f"blob {digest} is not in {place}; run 'vmledger blobs verify'")
