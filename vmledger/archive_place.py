"""Where an archive lies: a directory, or a prefix of a bucket.

    segments/    each written once and never changed
    blobs/       a blob store

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ledger.errors import CallerError, ConflictError, NotFoundError
from ledger.storage.blob_store import BlobStore
from ledger.storage.files import SystemFiles, write_durably
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.open_blob_store import open_s3, open_s3_blob_store
from vmledger.data_lock import DataLock

if TYPE_CHECKING:
    from ledger.storage.s3_objects import S3Objects

SEGMENTS: Final = "segments"
SUFFIX: Final = ".segment"
_BLOBS: Final = "blobs"
_S3: Final = "s3://"


class ArchivePlace(Protocol):
    """Keeps the segments and recordings of one archive.

    Its methods raise TransientError when it cannot be used now.
    """

    name: str
    """For people."""
    blobs: BlobStore

    def segments(self) -> list[str]:
        """Give the names of all segments, in their order."""

    def read(self, segment: str, most_bytes: int) -> bytes:
        """Give a segment; ValueError for one that is longer, OSError for one that is absent."""

    def write(self, segment: str, data: bytes) -> None:
        """Keep a new segment; durable on return."""

    def hold(self) -> AbstractContextManager[object]:
        """Keep other writers out; raises ConflictError when there is one."""


class DirectoryPlace:
    """An archive in a directory."""

    def __init__(self, directory: Path) -> None:
        """Make the directory if there is none."""
        self.name = str(directory)
        self._directory = directory
        self._segments = directory / SEGMENTS
        self._segments.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.blobs: BlobStore = FilesystemBlobStore(directory / _BLOBS)

    def segments(self) -> list[str]:
        return sorted(path.name for path in self._segments.glob(f"*{SUFFIX}"))

    def read(self, segment: str, most_bytes: int) -> bytes:
        path = self._segments / segment
        if path.stat().st_size > most_bytes:
            raise ValueError(f"it is longer than {most_bytes} bytes")
        return path.read_bytes()

    def write(self, segment: str, data: bytes) -> None:
        write_durably(SystemFiles(), self._segments / segment, data)

    def hold(self) -> AbstractContextManager[object]:
        return _lock(self._directory, self.name)


class BucketPlace:
    """An archive below a prefix of an S3-compatible store.

    A bucket knows no locks. That two runs of one server do not meet is seen to on that server.
    """

    def __init__(self, objects: S3Objects, blobs: BlobStore, lock: Path | None) -> None:
        """Join the parts; ``lock`` is the writing server's directory, None: it is only read."""
        self.name = objects.name
        self.blobs = blobs
        self._objects = objects
        self._lock = lock

    def segments(self) -> list[str]:
        names = (found.path for found in self._objects.list(SEGMENTS))
        return sorted(name for name in names if name.endswith(SUFFIX))

    def read(self, segment: str, most_bytes: int) -> bytes:
        return self._objects.read(f"{SEGMENTS}/{segment}", most_bytes)

    def write(self, segment: str, data: bytes) -> None:
        self._objects.write(f"{SEGMENTS}/{segment}", data)

    def hold(self) -> AbstractContextManager[object]:
        assert self._lock is not None, "who writes says where its lock is"
        self._lock.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _lock(self._lock, self.name)


def _lock(directory: Path, name: str) -> DataLock:
    try:
        return DataLock(directory)
    except ConflictError as error:
        raise ConflictError(f"the archive in {name} is being written; wait for its end") from error


def is_archive(directory: Path) -> bool:
    """Is this the directory of an archive?"""
    return (directory / SEGMENTS).is_dir()


def is_bucket(name: str) -> bool:
    """Does this name a bucket?"""
    return name.startswith(_S3)


def shown(name: str) -> str:
    """Give what people are shown of a place: a bucket without its options."""
    return name.split("?", maxsplit=1)[0] if is_bucket(name) else name


def open_place(name: str, lock: Path | None = None) -> ArchivePlace:
    """Open the archive in DIRECTORY or ``s3://BUCKET/PREFIX?endpoint=URL``.

    ``lock`` is a directory of the server that writes, and begins an archive where there is none;
    without it the archive is only read. Raises CallerError for another URL, NotFoundError for a
    directory that is to be read and holds no archive.
    """
    if is_bucket(name):
        return BucketPlace(open_s3(name), open_s3_blob_store(name, below=_BLOBS), lock)
    if "://" in name or name.startswith("s3:"):
        raise CallerError(f"{name!r} is neither a directory nor s3://BUCKET/PREFIX?endpoint=URL")
    if lock is None and not is_archive(Path(name)):
        raise NotFoundError(f"{name} is no archive: there is no {SEGMENTS}/ in it")
    return DirectoryPlace(Path(name))
