"""The file operations whose order is a promise, as a port.

A file's bytes survive a power cut only after `OpenFile.sync`, its name only after
`Files.sync_directory` of the folder that holds it; a rename is atomic. The stores are written
against these few calls, so that a simulation can give them a disk that really forgets what was
not synced.

Errors of all calls: TransientError for a full disk and for whatever else the system refuses now
(what was there stays), CorruptionError when the disk itself fails. A failed sync is never tried
again: the kernel may have dropped the pages, and a second sync would report success for bytes that
are gone. FileNotFoundError and FileExistsError are answers, and are left as they are.

Files are for the server's own user alone: what lies in them are people's messages.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ledger.errors import CorruptionError, LedgerError, NoRoomError, TransientError

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CANNOT_LINK: Final = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
_READ_BYTES: Final = 1 << 20
_AROUND_CACHE_BYTES: Final = 1 << 20
"""From this size on what is written goes to the disk directly."""
_PIECE_BYTES: Final = 1 << 19
_BLOCK_BYTES: Final = 4096
"""What starts and ends on multiples of this, any disk takes directly."""
_RETRY_AFTER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What is known of a file without opening it."""

    path: Path
    size_bytes: int
    modified_at_s: float
    """Seconds since 1970, by the clock of the file system, or as `Files.touch` set it."""


class OpenFile(Protocol):
    """A file that is being written at its end. For one thread at a time."""

    def write(self, data: bytes) -> None:
        """Append; kept when this process is killed, not yet when the machine is.

        A TransientError leaves the file as it was before this call. A kill may leave a part.
        """

    def sync(self) -> None:
        """Make what was written durable. Call `Files.sync_directory` for a new name."""

    def close(self) -> None:
        """Stop writing; makes nothing durable. Again is fine."""


class Files(Protocol):
    """A file system."""

    def make_directory(self, path: Path) -> None:
        """Make a folder and those above it unless they are there; its name is durable on return."""

    def create(self, path: Path) -> OpenFile:
        """Make a new file in a folder that is there; FileExistsError if the name is taken."""

    def read(self, path: Path, offset_bytes: int = 0, length_bytes: int | None = None) -> bytes:
        """Read all, or up to ``length_bytes`` from ``offset_bytes``."""

    def info(self, path: Path) -> FileInfo:
        """Say how large a file is and when it was last written."""

    def exists(self, path: Path) -> bool:
        """Is there a file of this name?"""

    def list(self, folder: Path) -> Iterator[FileInfo]:
        """List the files in a folder, not those below it; none if there is no such folder."""

    def folders(self, folder: Path) -> Sequence[Path]:
        """Name the folders in a folder, sorted; none if there is no such folder."""

    def touch(self, path: Path, modified_at_s: float) -> None:
        """Let a file count as last written then."""

    def replace(self, source: Path, target: Path) -> None:
        """Rename within a file system, over what is there.

        Two names of one file both stay (POSIX).
        """

    def link(self, source: Path, target: Path) -> bool:
        """Give a file a second name; FileExistsError if that is taken.

        False, and nothing done, where the file system cannot.
        """

    def remove(self, path: Path) -> None:
        """Take the name away; absent is fine. Who has the file open goes on reading it."""

    def sync_file(self, path: Path) -> None:
        """Make what was written to a file durable, whoever wrote it."""

    def sync_directory(self, path: Path) -> None:
        """Make the names in this folder durable, also that they are gone."""


class SystemFiles:
    """The file system of this machine."""

    def make_directory(self, path: Path) -> None:
        missing = [p for p in (path, *path.parents) if not p.is_dir()]
        there = missing[-1].parent if missing else path
        # Who made the last one that is there may have died before its name was synced.
        if os.access(there.parent, os.R_OK):  # else it was not this user who made it
            self.sync_directory(there.parent)
        for folder in reversed(missing):
            with _translated("making the directory", folder), suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            # A crash before this line leaves a folder that the next call finds, and syncs.
            self.sync_directory(folder.parent)

    def create(self, path: Path) -> OpenFile:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        with _translated("creating", path):
            return _SystemFile(path, os.open(path, flags, 0o600))

    def read(self, path: Path, offset_bytes: int = 0, length_bytes: int | None = None) -> bytes:
        with _translated("reading", path), path.open("rb", buffering=0) as file:
            if length_bytes is None and offset_bytes == 0:
                return file.readall()
            size_bytes = os.fstat(file.fileno()).st_size
            wanted_bytes = size_bytes if length_bytes is None else length_bytes
            end = min(size_bytes, offset_bytes + wanted_bytes)
            return _read_part(file.fileno(), offset_bytes, end)

    def info(self, path: Path) -> FileInfo:
        with _translated("looking at", path):
            return _info(path, path.stat())

    def exists(self, path: Path) -> bool:
        with _translated("looking at", path):
            return path.is_file()

    def list(self, folder: Path) -> Iterator[FileInfo]:
        with _translated("listing", folder), suppress(FileNotFoundError):
            with os.scandir(folder) as entries:
                found = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
            for entry in found:
                with suppress(FileNotFoundError):  # dropped while we list
                    yield _info(Path(entry.path), entry.stat())

    def folders(self, folder: Path) -> Sequence[Path]:
        with _translated("listing", folder):
            try:
                with os.scandir(folder) as entries:
                    return sorted(Path(entry.path) for entry in entries if entry.is_dir())
            except FileNotFoundError:
                return []

    def touch(self, path: Path, modified_at_s: float) -> None:
        with _translated("touching", path):
            os.utime(path, (modified_at_s, modified_at_s))

    def replace(self, source: Path, target: Path) -> None:
        with _translated("writing", target):
            source.replace(target)

    def link(self, source: Path, target: Path) -> bool:
        with _translated("linking", source):
            try:
                target.hardlink_to(source)
            except OSError as error:
                if error.errno not in _CANNOT_LINK:
                    raise
                return False
        return True

    def remove(self, path: Path) -> None:
        with _translated("dropping", path):
            path.unlink(missing_ok=True)

    def sync_file(self, path: Path) -> None:
        self._sync(path, os.O_RDONLY, os.fdatasync)

    def sync_directory(self, path: Path) -> None:
        self._sync(path, os.O_RDONLY | os.O_DIRECTORY, os.fsync)

    def _sync(self, path: Path, flags: int, sync: Callable[[int], None]) -> None:
        with _translated("opening", path):
            descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            _confirm(sync, descriptor, path)
        finally:
            os.close(descriptor)


def write_durably(files: Files, path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves either what was there before or the whole new one.

    Durable on return. Until the rename a crash leaves ``path`` with ``.new`` behind it, which
    nothing takes for the file; the next call drops it.
    """
    temporary = path.with_name(path.name + ".new")
    files.remove(temporary)
    file = files.create(temporary)
    try:
        file.write(data)
        file.sync()
        files.replace(temporary, path)
    except LedgerError:
        files.remove(temporary)
        raise
    finally:
        file.close()
    files.sync_directory(path.parent)


class _SystemFile:
    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        self._size_bytes = 0

    def write(self, data: bytes) -> None:
        assert self._descriptor is not None, "the file is closed"
        view = memoryview(data)
        try:
            if len(data) >= _AROUND_CACHE_BYTES and self._size_bytes % _BLOCK_BYTES == 0:
                done_bytes = _write_around_cache(self._descriptor, view)
                # A piece that failed must leave nothing behind which the rest would be appended to.
                os.ftruncate(self._descriptor, self._size_bytes + done_bytes)
                view = view[done_bytes:]
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self._take_back(self._descriptor)
            raise _our_error(error, "writing", self._path) from error
        self._size_bytes += len(data)

    def sync(self) -> None:
        assert self._descriptor is not None, "the file is closed"
        _confirm(os.fdatasync, self._descriptor, self._path)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take_back(self, descriptor: int) -> None:
        """Cut what a failed write left, so that the next one goes on where this one began."""
        try:
            os.ftruncate(descriptor, self._size_bytes)
        except OSError as error:
            raise CorruptionError(
                f"a failed write could not be undone: {error.strerror}",
                place=str(self._path),
                advice="restart the server; it recovers everything before this write",
            ) from error


def _write_around_cache(descriptor: int, data: memoryview) -> int:
    """Append as much as the disk takes without the page cache; gives how much that was.

    To copy what is synced at once into pages of the cache costs several times the processor time.
    What is refused here is left to an ordinary write, which says why if it cannot be written.
    """
    done = 0
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        with suppress(OSError), mmap.mmap(-1, _PIECE_BYTES) as aligned:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
            while part := min(len(data) - done, len(aligned)) // _BLOCK_BYTES * _BLOCK_BYTES:
                aligned[:part] = data[done : done + part]
                with memoryview(aligned)[:part] as piece:
                    written = os.write(descriptor, piece)
                done += written
                if written < part:
                    break
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return done


@contextmanager
def _translated(doing: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        raise _our_error(error, doing, path) from error


def _our_error(error: OSError, doing: str, path: Path) -> LedgerError:
    if error.errno in _NO_ROOM:
        return NoRoomError(
            f"the disk is full, so {doing} {path} failed; free some space",
            retry_after_s=_RETRY_AFTER_S,
        )
    if error.errno == errno.EIO:
        return CorruptionError(
            f"the disk reports an error while {doing}",
            place=str(path),
            advice="check the disk, then restore from a backup or from another server",
        )
    reason = error.strerror or str(error)
    return TransientError(f"{doing} {path} failed: {reason}", retry_after_s=_RETRY_AFTER_S)


def _confirm(sync: Callable[[int], None], descriptor: int, path: Path) -> None:
    try:
        sync(descriptor)
    except OSError as error:
        raise CorruptionError(
            f"the disk could not confirm a write: {error.strerror}",
            place=str(path),
            advice="check the disk and restart the server; what was not confirmed may be lost",
        ) from error


def _info(path: Path, facts: os.stat_result) -> FileInfo:
    return FileInfo(path, facts.st_size, facts.st_mtime)


def _read_part(descriptor: int, at: int, end: int) -> bytes:
    parts: list[bytes] = []
    while at < end and (part := os.pread(descriptor, min(end - at, _READ_BYTES), at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)
