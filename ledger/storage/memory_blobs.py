"""Blobs in memory, for tests and for the simulation. Gone with the process.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import threading
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


class MemoryBlobStore:
    """A `BlobStore` that keeps everything in two dictionaries.

    ``loose`` and ``packs`` may be looked into and spoiled by tests: name → (bytes, written at).
    """

    def __init__(
        self, *, files: Files | None = None, now_s: Callable[[], float] = time.time
    ) -> None:
        self.loose: dict[str, tuple[bytes, float]] = {}
        self.packs: dict[str, tuple[bytes, float]] = {}
        self._files = files or SystemFiles()
        self._now_s = now_s
        self._lock = threading.Lock()

    def put(self, digest: str, data: bytes) -> None:
        check_digest(digest, data, "put")
        with self._lock:
            self.loose[digest] = (bytes(data), self._now_s())

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
        with self._lock:
            self.packs[name] = (data, self._now_s())
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
            found = self.packs.get(pack)
            if found is None:
                raise FileNotFoundError(pack)
            return found[0][start : start + size_bytes]

        return get_together(read, locations, is_verified=is_verified)

    def has(self, digest: str) -> bool:
        return digest in self.loose

    def list_loose(self) -> Iterator[StoredBlob]:
        return self._list(self.loose)

    def list_packs(self) -> Iterator[StoredBlob]:
        return self._list(self.packs)

    def delete(self, digest: str) -> None:
        with self._lock:
            self.loose.pop(digest, None)

    def delete_pack(self, pack: str) -> None:
        with self._lock:
            self.packs.pop(pack, None)

    def _get_loose(self, digest: str) -> bytes:
        found = self.loose.get(digest)
        if found is None:
            raise not_found(digest, "memory")
        check_digest(digest, found[0], "memory")
        return found[0]

    def _get_packed(self, digest: str, location: BlobLocation) -> bytes:
        found = self.packs.get(location.pack)
        if found is None:
            raise not_found(digest, f"pack {location.pack}")
        end = location.offset_bytes + location.length_bytes
        data = found[0][location.offset_bytes : end]
        check_digest(digest, data, f"pack {location.pack}:{location.offset_bytes}")
        return data

    def _list(self, blobs: dict[str, tuple[bytes, float]]) -> Iterator[StoredBlob]:
        now_s = self._now_s()
        with self._lock:
            found = [
                StoredBlob(name, len(data), max(0.0, now_s - written_s))
                for name, (data, written_s) in blobs.items()
            ]
        return iter(found)
