"""Blobs as objects of an S3-compatible store.

``loose/ab/cdef…`` and ``packs/NAME.pack`` below a prefix, as on a file system.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ledger.storage.blob_store import (
    BlobBytes,
    NewBlob,
    StoredBlob,
    check_digest,
    get_together,
    not_found,
    pack_up,
    packed_or_loose,
)
from ledger.storage.event_log import BlobLocation
from ledger.storage.files import Files, SystemFiles
from ledger.storage.s3_objects import S3Objects


class S3BlobStore:
    """A `BlobStore` over any object store that obstore speaks to."""

    def __init__(
        self,
        objects: S3Objects,
        *,
        files: Files | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self._files = files or SystemFiles()
        self._now_s = now_s

    def put(self, digest: str, data: bytes) -> None:
        check_digest(digest, data, "put")
        # Written even if it is there: that heals a rotten one, and makes it young for gc.
        self._objects.write(_loose(digest), data)

    def put_file(self, digest: str, path: Path) -> None:
        try:
            data = self._files.read(path)
        except FileNotFoundError as error:
            raise not_found(digest, str(path)) from error
        self.put(digest, data)

    def put_pack(self, blobs: Sequence[NewBlob]) -> list[BlobLocation]:
        if not blobs:
            return []
        name, data, locations = pack_up(blobs)
        self._objects.write(_pack(name), data)
        return locations

    def get(self, digest: str, location: BlobLocation | None = None) -> bytes:
        if location is None:
            return self._get_loose(digest)
        return packed_or_loose(
            lambda: self._get_packed(digest, location), lambda: self._get_loose(digest)
        )

    def get_many(
        self, locations: Sequence[BlobLocation], *, is_verified: bool = True
    ) -> dict[str, BlobBytes]:
        def read(pack: str, start: int, size_bytes: int) -> bytes:
            return self._objects.read_part(_pack(pack), start, size_bytes)

        return get_together(read, locations, is_verified=is_verified)

    def has(self, digest: str) -> bool:
        return self._objects.exists(_loose(digest))

    def list_loose(self) -> Iterator[StoredBlob]:
        for path, blob in self._list("loose"):
            yield StoredBlob(path.replace("/", ""), blob.size_bytes, blob.age_s)

    def list_packs(self) -> Iterator[StoredBlob]:
        for path, blob in self._list("packs"):
            yield StoredBlob(path.removesuffix(".pack"), blob.size_bytes, blob.age_s)

    def delete(self, digest: str) -> None:
        self._objects.remove(_loose(digest))

    def delete_pack(self, pack: str) -> None:
        self._objects.remove(_pack(pack))

    def _get_loose(self, digest: str) -> bytes:
        path = _loose(digest)
        try:
            data = self._objects.read(path)
        except FileNotFoundError as error:
            raise not_found(digest, self._objects.place_of(path)) from error
        check_digest(digest, data, self._objects.place_of(path))
        return data

    def _get_packed(self, digest: str, location: BlobLocation) -> bytes:
        path = _pack(location.pack)
        try:
            data = self._objects.read_part(path, location.offset_bytes, location.length_bytes)
        except FileNotFoundError as error:
            raise not_found(digest, self._objects.place_of(path)) from error
        check_digest(digest, data, f"{self._objects.place_of(path)}:{location.offset_bytes}")
        return data

    def _list(self, prefix: str) -> Iterator[tuple[str, StoredBlob]]:
        now_s = self._now_s()
        for found in self._objects.list(prefix):
            age_s = max(0.0, now_s - found.modified_at.timestamp())
            yield found.path, StoredBlob(found.path, found.size_bytes, age_s)


def _loose(digest: str) -> str:
    return f"loose/{digest[:2]}/{digest[2:]}"


def _pack(name: str) -> str:
    return f"packs/{name}.pack"
