"""Recordings on their way in: how many at a time, with how much room, and until which byte.

Source: claims 1 and 12.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from litestar import Request

from ledger.configuration import Limits
from ledger.errors import NoRoomError, TransientError
from ledger.header_number import parse_number
from ledger.server import TooLargeError
from ledger.storage.disk_room import DiskRoom

_BUSY_RETRY_S: Final = 1.0


class TooManyUploadsError(TransientError):
    """As many recordings as this server takes at a time arrive already."""


class UploadGate:
    """Keeps a burst of callers, or a full disk, from spoiling the recordings that run already."""

    def __init__(
        self, limits: Limits, room: DiskRoom, on_busy: Callable[[TransientError], None]
    ) -> None:
        """``on_busy`` is told of every upload that is asked to come back later."""
        self._limits = limits
        self._room = room
        self._on_busy = on_busy
        self.running = 0
        """How many arrive now."""

    def has_place(self) -> bool:
        """May another one begin, as far as their number goes?"""
        return self.running < self._limits.concurrent_uploads

    @contextlib.contextmanager
    def pass_one(self, size_bytes: int = 0) -> Iterator[None]:
        """Let a recording of a declared size (0: not declared) begin.

        Raises TooManyUploadsError or NoRoomError when none may begin now: nothing of it was read.
        """
        try:
            with self._place(), self._room.for_recording(size_bytes):
                yield
        except (TooManyUploadsError, NoRoomError) as error:
            self._on_busy(error)
            raise

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if not self.has_place():
            raise TooManyUploadsError(
                f"{self.running} recordings arrive already; send this one again",
                retry_after_s=_BUSY_RETRY_S,
            )
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


class Upload:
    """The body of a request as it arrives, and when its end had arrived."""

    def __init__(self, request: Request[Any, Any, Any]) -> None:
        self._request = request
        self._ended_s = time.monotonic()

    @property
    def declared_bytes(self) -> int:
        """How long it is, as its Content-Length says; 0 when it does not."""
        return parse_number(self._request.headers.get("content-length", "")) or 0

    @property
    def since_end_s(self) -> float:
        """Seconds since the last byte arrived."""
        return time.monotonic() - self._ended_s

    def expect_at_most(self, limit_bytes: int, what: str) -> None:
        """Raise TooLargeError for a declared length beyond that, before a byte of it is read."""
        if self.declared_bytes > limit_bytes:
            raise TooLargeError(
                f"the {what} has {self.declared_bytes} bytes and this server takes {limit_bytes}; "
                "nothing of it was kept"
            )

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body; raises TransientError when it breaks off."""
        while True:
            message = await self._request.receive()
            if message["type"] != "http.request":
                raise TransientError("the upload broke off before its end; send it again")
            if message["body"]:
                yield message["body"]
            if not message.get("more_body", False):
                self._ended_s = time.monotonic()
                return
