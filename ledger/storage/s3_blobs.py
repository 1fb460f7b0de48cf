"""Blobs as objects of an S3-compatible store.

``loose/ab/cdef…`` and ``packs/NAME.pack`` below a prefix, as on a file system. A PUT appears whole
or not at all, and what it answers is durable by S3's own contract; but stores were seen to accept
a wrong checksum header, so everything written is read back and compared before it counts. A reader
whose store ignores ranges (it may, RFC 9110 section 14.2) gets the whole pack and cuts it here.

Credentials come from the environment as all S3 programs read them (``AWS_ACCESS_KEY_ID``, …).
Needs the extra ``s3``.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, S3Store

from ledger.errors import NotFoundError, TransientError
from ledger.storage.blob_store import (
    NewBlob,
    StoredBlob,
    check_digest,
    get_each,
    not_found,
    pack_up,
    packed_or_loose,
)
from ledger.storage.event_log import BlobLocation
from ledger.storage.files import Files, SystemFiles

_ERRORS = (BaseError, OSError)
"""What obstore raises; an absent object is the built-in FileNotFoundError."""

_LOCKS: Final = 64


def connect_s3(bucket: str, prefix: str, endpoint: str | None, region: str | None) -> ObjectStore:
    """Make a client; nothing is sent yet. A call gives up after about 20 seconds of retries."""
    return S3Store(
        bucket,
        prefix=prefix or None,
        config={
            "region": region or "us-east-1",
            **({"endpoint": endpoint} if endpoint else {}),
        },
        client_options={
            "allow_http": (endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=60),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
    )


class S3BlobStore:
    """A `BlobStore` over any object store that obstore speaks to."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        files: Files | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._files = files or SystemFiles()
        self._now_s = now_s
        # One writer of an object at a time: some servers (rclone) let it vanish for a moment while
        # it is replaced. Writers in other processes meet that as a TransientError.
        self._writing = [threading.Lock() for _ in range(_LOCKS)]

    def put(self, digest: str, data: bytes) -> None:
        check_digest(digest, data, "put")
        # Written even if it is there: that heals a rotten one, and makes it young for gc.
        self._keep(_loose(digest), data)

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
        self._keep(_pack(name), data)
        return locations

    def get(self, digest: str, location: BlobLocation | None = None) -> bytes:
        if location is None:
            return self._get_loose(digest)
        return packed_or_loose(
            lambda: self._get_packed(digest, location), lambda: self._get_loose(digest)
        )

    def get_many(self, locations: Sequence[BlobLocation]) -> dict[str, bytes]:
        return get_each(self.get, locations)

    def has(self, digest: str) -> bool:
        try:
            obstore.head(self._store, _loose(digest))
        except FileNotFoundError:
            return False
        except _ERRORS as error:
            raise _unreachable("looking for", _loose(digest)) from error
        return True

    def list_loose(self) -> Iterator[StoredBlob]:
        for path, blob in self._list("loose"):
            yield StoredBlob(path.replace("/", ""), blob.size_bytes, blob.age_s)

    def list_packs(self) -> Iterator[StoredBlob]:
        for path, blob in self._list("packs"):
            yield StoredBlob(path.removesuffix(".pack"), blob.size_bytes, blob.age_s)

    def delete(self, digest: str) -> None:
        self._drop(_loose(digest))

    def delete_pack(self, pack: str) -> None:
        self._drop(_pack(pack))

    def _keep(self, path: str, data: bytes) -> None:
        with self._writing[hash(path) % len(self._writing)]:
            try:
                # A crash around here leaves the whole object or none.
                obstore.put(self._store, path, data)
            except _ERRORS as error:
                raise _unreachable("writing", path) from error
            self._confirm(path, data)

    def _confirm(self, path: str, data: bytes) -> None:
        """Compare what is kept with what was sent.

        What differs is left there: another writer may be about to put it right, and every reader
        verifies. Nobody was told that it is kept.
        """
        try:
            kept = self._read(path, path)
        except NotFoundError as error:
            raise TransientError(f"the S3 store took {path} and does not have it") from error
        if kept != data:
            raise TransientError(f"the S3 store kept other bytes than were sent as {path}")

    def _get_loose(self, digest: str) -> bytes:
        data = self._read(_loose(digest), digest)
        check_digest(digest, data, _loose(digest))
        return data

    def _get_packed(self, digest: str, location: BlobLocation) -> bytes:
        path = _pack(location.pack)
        data = self._read_part(path, digest, location)
        check_digest(digest, data, f"{path}:{location.offset_bytes}")
        return data

    def _read(self, path: str, digest: str) -> bytes:
        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError as error:
            raise not_found(digest, path) from error
        except _ERRORS as error:
            raise _unreachable("reading", path) from error

    def _read_part(self, path: str, digest: str, location: BlobLocation) -> bytes:
        start, length = location.offset_bytes, location.length_bytes
        if length:
            try:
                return bytes(obstore.get_range(self._store, path, start=start, length=length))
            except FileNotFoundError as error:
                raise not_found(digest, path) from error
            except _ERRORS:
                pass  # No ranges here, or the pack is too short: the whole of it will tell.
        return self._read(path, digest)[start : start + length]

    def _list(self, prefix: str) -> Iterator[tuple[str, StoredBlob]]:
        now_s = self._now_s()
        try:
            for objects in obstore.list(self._store, prefix=prefix):
                for found in objects:
                    path = found["path"].removeprefix(f"{prefix}/")
                    age_s = max(0.0, now_s - found["last_modified"].timestamp())
                    yield path, StoredBlob(path, found["size"], age_s)
        except _ERRORS as error:
            raise _unreachable("listing", prefix) from error

    def _drop(self, path: str) -> None:
        try:
            obstore.delete(self._store, path)
        except FileNotFoundError:
            return
        except _ERRORS as error:
            raise _unreachable("dropping", path) from error


def _loose(digest: str) -> str:
    return f"loose/{digest[:2]}/{digest[2:]}"


def _pack(name: str) -> str:
    return f"packs/{name}.pack"


def _unreachable(doing: str, path: str) -> TransientError:
    return TransientError(
        f"the S3 store failed at {doing} {path}; check its address, bucket and credentials",
        retry_after_s=5.0,
    )
