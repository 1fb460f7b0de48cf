"""Recordings on their way in: how many at a time, with how much room, and until which byte.

Source: claims 1 and 12.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from litestar import Request

from ledger.configuration import Limits
from ledger.errors import TransientError

_BUSY_RETRY_S: Final = 1.0
_FULL_RETRY_S: Final = 30.0


class UploadGate:
    """Keeps a burst of callers, or a full disk, from spoiling the recordings that run already."""

    def __init__(self, limits: Limits, data_dir: Path) -> None:
        self._limits = limits
        self._data_dir = data_dir
        self._running = 0

    @contextlib.contextmanager
    def pass_one(self) -> Iterator[None]:
        """Let one recording begin; raises TransientError when none may begin now."""
        if self._running >= self._limits.concurrent_uploads:
            raise TransientError(
                f"{self._running} recordings arrive already; send this one again",
                retry_after_s=_BUSY_RETRY_S,
            )
        if not self.has_room():
            raise TransientError(
                "the disk is almost full and no new recording is begun; the operator must act",
                retry_after_s=_FULL_RETRY_S,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def has_room(self) -> bool:
        """Is there room for recordings?"""
        return self.free_bytes() >= self._limits.min_free_disk_bytes

    def free_bytes(self) -> int:
        """Give the free space for this server's data."""
        return shutil.disk_usage(self._data_dir).free


class Upload:
    """The body of a request as it arrives, and when its end had arrived."""

    def __init__(self, request: Request[Any, Any, Any]) -> None:
        self._request = request
        self._ended_s = time.monotonic()

    @property
    def since_end_s(self) -> float:
        """Seconds since the last byte arrived."""
        return time.monotonic() - self._ended_s

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
