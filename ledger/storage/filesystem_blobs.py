"""Blobs as files of a local file system.

``ab/cdef…`` holds the loose blob of digest ``abcdef…``; ``packs/NAME.pack`` a pack, NAME being its
SHA-256; ``tmp/`` what is being written. A file appears under its name only when it is whole and on
the disk: written in ``tmp``, synced, renamed, and the directory synced. Renaming is atomic, so a
reader sees a whole file or none, and one who has it open keeps it even when it is dropped.

A pack is its blobs end to end: still one run of zstd frames, each blob beginning with its metadata
frame, so even without any index ``zstd -dc`` and the metadata find everything in it.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ledger.errors import CorruptionError, NotFoundError
from ledger.storage.blob_store import (
    NewBlob,
    StoredBlob,
    check_digest,
    not_found,
    pack_up,
    packed_or_loose,
)
from ledger.storage.durable_files import (
    make_directory,
    sync_directory,
    sync_file,
    translate_os_error,
    write_all,
)
from ledger.storage.event_log import BlobLocation

_ABANDONED_TEMPORARY_S = 24 * 3600.0
_CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
_READ_BYTES = 1 << 20


class FilesystemBlobStore:
    """A `BlobStore` below one directory. Several processes may use the same one."""

    def __init__(self, root: Path, *, now_s: Callable[[], float] = time.time) -> None:
        self._root = root
        self._packs = root / "packs"
        self._temporary = root / "tmp"
        self._now_s = now_s
        self._prepare()

    def put(self, digest: str, data: bytes) -> None:
        check_digest(digest, data, "put")
        target = self._loose(digest)
        if not self._is_kept(digest, target):
            self._keep(target, data)

    def put_file(self, digest: str, path: Path) -> None:
        check_digest(digest, _read(path, digest), str(path))
        target = self._loose(digest)
        if self._is_kept(digest, target):
            return
        temporary = self._link(path)
        if temporary is None:
            self._keep(target, _read(path, digest))
        else:
            self._rename(temporary, target)

    def put_pack(self, blobs: Sequence[NewBlob]) -> list[BlobLocation]:
        if not blobs:
            return []
        name, data, locations = pack_up(blobs)
        target = self._pack(name)
        if not self._is_kept(name, target):
            self._keep(target, data)
        return locations

    def get(self, digest: str, location: BlobLocation | None = None) -> bytes:
        if location is None:
            return self._get_loose(digest)
        return packed_or_loose(
            lambda: self._get_packed(digest, location), lambda: self._get_loose(digest)
        )

    def has(self, digest: str) -> bool:
        return self._loose(digest).is_file()

    def list_loose(self) -> Iterator[StoredBlob]:
        for directory in self._root.iterdir():
            if len(directory.name) == 2:
                yield from self._list(directory, prefix=directory.name)

    def list_packs(self) -> Iterator[StoredBlob]:
        return self._list(self._packs)

    def delete(self, digest: str) -> None:
        # Not synced: after a crash the blob may be back, and is simply dropped again.
        _unlink(self._loose(digest))

    def delete_pack(self, pack: str) -> None:
        _unlink(self._pack(pack))

    def _loose(self, digest: str) -> Path:
        return self._root / digest[:2] / digest[2:]

    def _pack(self, name: str) -> Path:
        return self._packs / f"{name}.pack"

    def _prepare(self) -> None:
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise translate_os_error(error, "making the directory", self._root) from error
        make_directory(self._packs)
        make_directory(self._temporary)
        # A process that was killed between making a directory and syncing its name leaves one
        # that we find and would trust: sync the names once for all of them.
        sync_directory(self._root)
        self._drop_abandoned_temporaries()

    def _drop_abandoned_temporaries(self) -> None:
        for path in self._temporary.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if self._now_s() - path.stat().st_mtime > _ABANDONED_TEMPORARY_S:
                    path.unlink()

    def _is_kept(self, name: str, target: Path) -> bool:
        """Is it there, whole and durable? Then it counts as written now, so `gc` spares it."""
        try:
            os.utime(target, (self._now_s(), self._now_s()))
            check_digest(name, _read(target, name), str(target))
        except (FileNotFoundError, NotFoundError, CorruptionError):
            return False
        except OSError as error:
            raise translate_os_error(error, "reading", target) from error
        # Another process may have renamed it and died before it synced the directory.
        sync_directory(target.parent)
        return True

    def _keep(self, target: Path, data: bytes) -> None:
        """Write a file durably under a name of its own, then give it its name."""
        try:
            # A crash until the rename leaves a file in tmp/ that is dropped a day later.
            descriptor, name = tempfile.mkstemp(dir=self._temporary)
        except OSError as error:
            raise translate_os_error(error, "writing", target) from error
        temporary = Path(name)
        try:
            write_all(descriptor, data)
            sync_file(descriptor, temporary)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise translate_os_error(error, "writing", target) from error
        finally:
            os.close(descriptor)
        self._rename(temporary, target)

    def _rename(self, temporary: Path, target: Path) -> None:
        make_directory(target.parent)
        try:
            # Until here a crash leaves nothing under the name; from here the whole, synced file.
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise translate_os_error(error, "writing", target) from error
        # A crash before this sync may take the name away again: nobody was told of the blob yet.
        sync_directory(target.parent)

    def _link(self, path: Path) -> Path | None:
        """Give the file a second name in tmp/, synced; None where the file system cannot."""
        name = f"{os.getpid()}-{threading.get_native_id()}-{time.monotonic_ns()}.link"
        link = self._temporary / name
        try:
            link.hardlink_to(path)
            os.utime(link, (self._now_s(), self._now_s()))
        except OSError as error:
            link.unlink(missing_ok=True)
            if error.errno in _CANNOT_LINK:
                return None
            raise translate_os_error(error, "linking", path) from error
        _sync_path(link)
        return link

    def _get_loose(self, digest: str) -> bytes:
        path = self._loose(digest)
        data = _read(path, digest)
        check_digest(digest, data, str(path))
        return data

    def _get_packed(self, digest: str, location: BlobLocation) -> bytes:
        path = self._pack(location.pack)
        data = _read(path, digest, location)
        check_digest(digest, data, f"{path}:{location.offset_bytes}")
        return data

    def _list(self, directory: Path, prefix: str = "") -> Iterator[StoredBlob]:
        now_s = self._now_s()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # dropped while we list
                        facts = entry.stat()
                        name = prefix + entry.name.removesuffix(".pack")
                        age_s = max(0.0, now_s - facts.st_mtime)
                        yield StoredBlob(name, facts.st_size, age_s)
        except OSError as error:
            raise translate_os_error(error, "listing", directory) from error


def _read(path: Path, digest: str, location: BlobLocation | None = None) -> bytes:
    """Read a file, or the part of a pack that ``location`` names."""
    try:
        with path.open("rb", buffering=0) as file:
            if location is None:
                return file.readall()
            return _read_part(file.fileno(), location)
    except FileNotFoundError as error:
        raise not_found(digest, str(path)) from error
    except OSError as error:
        raise translate_os_error(error, "reading", path) from error


def _read_part(descriptor: int, location: BlobLocation) -> bytes:
    parts: list[bytes] = []
    at, end = location.offset_bytes, location.offset_bytes + location.length_bytes
    while at < end and (part := os.pread(descriptor, min(end - at, _READ_BYTES), at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_file(descriptor, path)
    finally:
        os.close(descriptor)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise translate_os_error(error, "dropping", path) from error
