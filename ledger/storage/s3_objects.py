"""Whole objects of an S3-compatible store, by their paths below a prefix.

A PUT appears whole or not at all, and what it answers is durable by S3's own contract; but stores
were seen to accept a wrong checksum header, so everything written is read back and compared before
it counts.

Credentials come from the environment as all S3 programs read them (``AWS_ACCESS_KEY_ID``, …).
Needs the extra ``s3``.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, S3Store

from ledger.errors import TransientError

_ERRORS = (BaseError, OSError)
"""What obstore raises; an absent object is the built-in FileNotFoundError."""

_LOCKS: Final = 64
_NO_BUCKET: Final = "NoSuchBucket"
"""What S3 says in its 404 when the bucket is not there, rather than one object in it."""


class ObjectInfo(NamedTuple):
    """An object, and nothing of its bytes."""

    path: str
    size_bytes: int
    modified_at: datetime


def connect_s3(bucket: str, prefix: str, endpoint: str | None, region: str | None) -> S3Objects:
    """Make a client; nothing is sent yet. A call gives up after about 20 seconds of retries."""
    store = S3Store(
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
    return S3Objects(store, f"s3://{bucket}/{prefix}".rstrip("/"))


class S3Objects:
    """Objects of any store that obstore speaks to. For any thread.

    Every method raises TransientError when the store cannot be used now.
    """

    def __init__(self, store: ObjectStore, name: str) -> None:
        """Use a store; ``name`` is what people know it by: ``s3://BUCKET/PREFIX``."""
        self.name = name
        self._store = store
        # One writer of an object at a time: some servers (rclone) let it vanish for a moment while
        # it is replaced. Writers in other processes meet that as a TransientError.
        self._writing = [threading.Lock() for _ in range(_LOCKS)]

    def place_of(self, path: str) -> str:
        """Say where an object is, for people."""
        return f"{self.name}/{path}"

    def write(self, path: str, data: bytes) -> None:
        """Keep an object; durable on return."""
        with self._writing[hash(path) % len(self._writing)]:
            try:
                # A crash around here leaves the whole object or none.
                obstore.put(self._store, path, data)
            except _ERRORS as error:
                raise self._unreachable("writing", path) from error
            self._confirm(path, data)

    def _confirm(self, path: str, data: bytes) -> None:
        """Compare what is kept with what was sent.

        What differs is left there: another writer may be about to put it right, and every reader
        verifies. Nobody was told that it is kept.
        """
        place = self.place_of(path)
        try:
            kept = self.read(path)
        except FileNotFoundError as error:
            raise TransientError(f"the S3 store took {place} and does not have it") from error
        if kept != data:
            raise TransientError(f"the S3 store kept other bytes than were sent as {place}")

    def read(self, path: str, most_bytes: int | None = None) -> bytes:
        """Give an object; FileNotFoundError when it is absent, ValueError when it is longer."""
        try:
            found = obstore.get(self._store, path)
            if most_bytes is not None and found.meta["size"] > most_bytes:
                raise ValueError(f"it is longer than {most_bytes} bytes")
            return bytes(found.bytes())
        except FileNotFoundError as error:
            self._expect_bucket(error, path)
            raise
        except _ERRORS as error:
            raise self._unreachable("reading", path) from error

    def read_part(self, path: str, start: int, length: int) -> bytes:
        """Give a part of an object, or what there is of it; FileNotFoundError when it is absent.

        A store may ignore ranges (RFC 9110 section 14.2): then the whole is read and cut here.
        """
        if length:
            try:
                return bytes(obstore.get_range(self._store, path, start=start, length=length))
            except FileNotFoundError as error:
                self._expect_bucket(error, path)
                raise
            except _ERRORS:
                pass  # No ranges here, or the object is too short: the whole of it will tell.
        return self.read(path)[start : start + length]

    def exists(self, path: str) -> bool:
        """Is there such an object?"""
        try:
            obstore.head(self._store, path)
        except FileNotFoundError:
            return False
        except _ERRORS as error:
            raise self._unreachable("looking for", path) from error
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Give the objects below a prefix, in any order, by their paths below it."""
        try:
            for objects in obstore.list(self._store, prefix=prefix):
                for found in objects:
                    path = found["path"].removeprefix(f"{prefix}/")
                    yield ObjectInfo(path, found["size"], found["last_modified"])
        except _ERRORS as error:
            raise self._unreachable("listing", prefix) from error

    def remove(self, path: str) -> None:
        """Drop an object; nothing happens when it is absent."""
        try:
            obstore.delete(self._store, path)
        except FileNotFoundError:
            return
        except _ERRORS as error:
            raise self._unreachable("dropping", path) from error

    def _expect_bucket(self, error: FileNotFoundError, path: str) -> None:
        """Tell a store that cannot be used from one that has lost an object."""
        if _NO_BUCKET in str(error):
            raise self._unreachable("reading", path) from error

    def _unreachable(self, doing: str, path: str) -> TransientError:
        place = self.place_of(path)
        return TransientError(
            f"the S3 store failed at {doing} {place}; check its address, bucket and credentials",
            retry_after_s=5.0,
        )
