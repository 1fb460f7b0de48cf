"""The file operations whose order is a promise, as a port.

A file's bytes survive a power cut only after `OpenFile.sync`, its name only after
`Files.sync_directory` of the folder that holds it; a rename is atomic. The stores are written
against these few calls, so that a simulation can give them a disk that really forgets what was
not synced.

Errors of all calls: TransientError for a full disk (what was there stays), CorruptionError for
an input/output error; after a failed sync nothing is known about the file any more, and trying
the sync again could report a success that is none. FileNotFoundError is left as it is.

Source: claim 10.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ledger.errors import CorruptionError, TransientError

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as `Files.list` finds it."""

    path: Path
    size_bytes: int
    modified_at_s: float
    """Seconds since 1970, by the clock of the file system."""


class OpenFile(Protocol):
    """A file that is being written at its end."""

    def write(self, data: bytes) -> None:
        """Append; kept when this process is killed, not yet when the machine is."""

    def sync(self) -> None:
        """Make what was written durable. Call `Files.sync_directory` for a new name."""

    def close(self) -> None:
        """Stop writing; makes nothing durable. Closing twice is fine."""


class Files(Protocol):
    """A file system."""

    def create(self, path: Path) -> OpenFile:
        """Make a new file and its folders; FileExistsError if there is one of that name."""

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        """Read all, or up to ``length`` bytes from ``offset``."""

    def replace(self, source: Path, target: Path) -> None:
        """Rename, over what is there."""

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; FileExistsError if that name is taken."""

    def remove(self, path: Path) -> None:
        """Take the name away; absent is fine. Who has the file open goes on reading it."""

    def truncate(self, path: Path, size_bytes: int) -> None:
        """Cut a file, durably."""

    def sync_directory(self, path: Path) -> None:
        """Make the names in this folder durable."""

    def exists(self, path: Path) -> bool:
        """Is there a file of this name?"""

    def list(self, folder: Path) -> Iterator[FileInfo]:
        """List all files in a folder and below it; none if there is no such folder."""


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise TransientError(
                f"no room left for {path} ({error.strerror}); free some space", retry_after_s=10.0
            ) from error
        raise CorruptionError(
            f"the file system failed: {error.strerror or error}",
            place=str(path),
            advice="check the disk and its cables before you start the server again",
        ) from error


class SystemFiles:
    """The file system of this machine."""

    def create(self, path: Path) -> OpenFile:
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            return _SystemFile(path, os.open(path, flags, 0o640))

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        with _translated(path), path.open("rb", buffering=0) as file:
            if offset:
                file.seek(offset)
            return file.read() if length is None else file.read(length)

    def replace(self, source: Path, target: Path) -> None:
        with _translated(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        with _translated(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(source)

    def remove(self, path: Path) -> None:
        with _translated(path):
            path.unlink(missing_ok=True)

    def truncate(self, path: Path, size_bytes: int) -> None:
        with _translated(path), path.open("r+b", buffering=0) as file:
            file.truncate(size_bytes)
            os.fsync(file.fileno())

    def sync_directory(self, path: Path) -> None:
        with _translated(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def exists(self, path: Path) -> bool:
        with _translated(path):
            return path.exists()

    def list(self, folder: Path) -> Iterator[FileInfo]:
        with _translated(folder):
            for place, _, names in os.walk(folder):
                for name in names:
                    path = Path(place, name)
                    try:
                        found = path.stat()
                    except FileNotFoundError:
                        continue  # removed while we listed
                    yield FileInfo(path, found.st_size, found.st_mtime)


class _SystemFile:
    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    def write(self, data: bytes) -> None:
        assert self._descriptor is not None, "the file is closed"
        with _translated(self._path):
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        assert self._descriptor is not None, "the file is closed"
        with _translated(self._path):
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
