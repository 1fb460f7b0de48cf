"""Blobs as files of a local file system.

``ab/cdef…`` holds the loose blob of digest ``abcdef…``; ``packs/NAME.pack`` a pack, NAME being the
SHA-256 of what its blobs are called; ``tmp/`` what is being written. A file appears under its name
only when it is whole and on the disk: written in ``tmp``, synced, renamed, and the directory
synced. Renaming is atomic, so a reader sees a whole file or none, and one who has it open keeps it
even when it is dropped.

A pack is its blobs end to end: still one run of zstd frames, each blob beginning with its metadata
frame, so even without any index ``zstd -dc`` and the metadata find everything in it.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ledger.errors import CorruptionError, LedgerError
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

_ABANDONED_TEMPORARY_S: Final = 24 * 3600.0
_LOOSE_FOLDERS: Final = frozenset(f"{number:02x}" for number in range(256))


def _random_name() -> str:
    return secrets.token_hex(16)


class FilesystemBlobStore:
    """A `BlobStore` below one directory. Several processes may use the same one.

    ``new_name`` gives names that nobody else has, for what is being written.
    """

    def __init__(
        self,
        root: Path,
        *,
        files: Files | None = None,
        now_s: Callable[[], float] = time.time,
        new_name: Callable[[], str] = _random_name,
    ) -> None:
        self._root = root
        self._packs = root / "packs"
        self._temporary = root / "tmp"
        self._files = files or SystemFiles()
        self._now_s = now_s
        self._new_name = new_name
        self._durable_folders: set[Path] = set()
        """Folders whose names this process has seen to disk: whoever made one may have died."""
        for folder in (root, self._packs, self._temporary):
            self._ensure_folder(folder)
        self._drop_abandoned_temporaries()

    def put(self, digest: str, data: bytes) -> None:
        check_digest(digest, data, "put")
        target = self._loose(digest)
        if not self._is_kept(target, data):
            self._keep(target, data)

    def put_file(self, digest: str, path: Path) -> None:
        data = self._read(path, digest)
        check_digest(digest, data, str(path))
        target = self._loose(digest)
        if self._is_kept(target, data):
            return
        temporary = self._link(path)
        if temporary is None:
            self._keep(target, data)
        else:
            self._rename(temporary, target)

    def put_pack(self, blobs: Sequence[NewBlob]) -> list[BlobLocation]:
        if not blobs:
            return []
        name, data, locations = pack_up(blobs)
        target = self._pack(name)
        if not self._is_kept(target, data):
            self._keep(target, data)
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
            return self._files.read(self._pack(pack), start, size_bytes)

        return get_together(read, locations, is_verified=is_verified)

    def has(self, digest: str) -> bool:
        target = self._loose(digest)
        if not self._files.exists(target):
            return False
        self._settle(target.parent)
        return True

    def list_loose(self) -> Iterator[StoredBlob]:
        for folder in self._files.folders(self._root):
            if folder.name in _LOOSE_FOLDERS:
                yield from self._list(folder, prefix=folder.name)

    def list_packs(self) -> Iterator[StoredBlob]:
        return self._list(self._packs)

    def delete(self, digest: str) -> None:
        # Not synced: after a crash the blob may be back, and is simply dropped again.
        self._files.remove(self._loose(digest))

    def delete_pack(self, pack: str) -> None:
        self._files.remove(self._pack(pack))

    def _loose(self, digest: str) -> Path:
        return self._root.joinpath(digest[:2], digest[2:])

    def _pack(self, name: str) -> Path:
        return self._packs / f"{name}.pack"

    def _ensure_folder(self, folder: Path) -> None:
        if folder not in self._durable_folders:
            self._files.make_directory(folder)
            self._durable_folders.add(folder)

    def _drop_abandoned_temporaries(self) -> None:
        for found in self._files.list(self._temporary):
            if self._now_s() - found.modified_at_s > _ABANDONED_TEMPORARY_S:
                self._files.remove(found.path)

    def _is_kept(self, target: Path, data: bytes) -> bool:
        """Is it there, whole and durable? Then it counts as written now, so `gc` spares it."""
        try:
            self._files.touch(target, self._now_s())
            if self._files.read(target) != data:
                return False  # it has rotted
        except (FileNotFoundError, CorruptionError):
            return False
        self._settle(target.parent)
        return True

    def _settle(self, folder: Path) -> None:
        """Make names that are seen durable: who renamed may have died before it synced them."""
        self._ensure_folder(folder)
        self._files.sync_directory(folder)

    def _keep(self, target: Path, data: bytes) -> None:
        """Write a file durably under a name of its own, then give it its name."""
        # A crash until the rename leaves a file in tmp/ that is dropped a day later.
        temporary = self._temporary / self._new_name()
        file = self._files.create(temporary)
        try:
            file.write(data)
            file.sync()
        except LedgerError:
            self._files.remove(temporary)
            raise
        finally:
            file.close()
        self._rename(temporary, target)

    def _rename(self, temporary: Path, target: Path) -> None:
        try:
            self._ensure_folder(target.parent)
            # Until here a crash leaves nothing under the name; from here the whole, synced file.
            self._files.replace(temporary, target)
        except LedgerError:
            self._files.remove(temporary)
            raise
        # A crash before this sync may take the name away again: nobody was told of the blob yet.
        self._files.sync_directory(target.parent)

    def _link(self, path: Path) -> Path | None:
        """Give the file a second name in tmp/, synced; None where the file system cannot."""
        link = self._temporary / self._new_name()
        # A crash from here to the rename leaves a second name that is dropped a day later.
        if not self._files.link(path, link):
            return None
        try:
            self._files.touch(link, self._now_s())
            self._files.sync_file(link)
        except LedgerError:
            self._files.remove(link)
            raise
        return link

    def _get_loose(self, digest: str) -> bytes:
        path = self._loose(digest)
        data = self._read(path, digest)
        check_digest(digest, data, str(path))
        return data

    def _get_packed(self, digest: str, location: BlobLocation) -> bytes:
        path = self._pack(location.pack)
        data = self._read(path, digest, location)
        check_digest(digest, data, f"{path}:{location.offset_bytes}")
        return data

    def _read(self, path: Path, digest: str, location: BlobLocation | None = None) -> bytes:
        """Read a file, or the part of a pack that ``location`` names."""
        try:
            if location is None:
                return self._files.read(path)
            return self._files.read(path, location.offset_bytes, location.length_bytes)
        except FileNotFoundError as error:
            raise not_found(digest, str(path)) from error

    def _list(self, folder: Path, prefix: str = "") -> Iterator[StoredBlob]:
        now_s = self._now_s()
        for found in self._files.list(folder):
            name = prefix + found.path.name.removesuffix(".pack")
            yield StoredBlob(name, found.size_bytes, max(0.0, now_s - found.modified_at_s))
