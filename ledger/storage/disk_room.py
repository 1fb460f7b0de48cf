"""Who may still write as the disk fills: what can wait elsewhere stops first.

Three thresholds, from the outside in. Below ``min_free_disk_for_batches_bytes`` peers are asked to
come back later (they keep their copy), and read models are not rebuilt. Below
``min_free_disk_bytes`` no new recording is begun. What is left then is for the log, whose events
are tiny; and when somebody else fills even that, there is the log's own reserve
(`ledger.storage.log_reserve`).

What has been let in and is still arriving counts as written already, as far as its length was
declared: a burst of uploads cannot each count on the same free bytes.

Source: claims 3 and 10.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ledger.configuration import Limits
from ledger.errors import NoRoomError

RETRY_AFTER_S: Final = 30.0
"""Making room takes a person a while; a program that frees some finds callers back soon enough."""


def _free_bytes(place: Path) -> int:
    return shutil.disk_usage(place).free


class DiskRoom:
    """The free space of one server's stores, and who may use it. Safe to use from any thread."""

    def __init__(
        self,
        places: Iterable[Path],
        limits: Limits,
        *,
        free_bytes_at: Callable[[Path], int] = _free_bytes,
    ) -> None:
        """Look after these directories; the fullest of their file systems counts."""
        self._places = tuple(places)
        self._for_recordings_bytes = limits.min_free_disk_bytes
        self._for_batches_bytes = max(
            limits.min_free_disk_bytes, limits.min_free_disk_for_batches_bytes
        )
        self._free_bytes_at = free_bytes_at
        self._promised_bytes = 0
        self._promising = threading.Lock()

    def free_bytes(self) -> int:
        """Give the free space of the fullest file system."""
        return min(self._free_bytes_at(place) for place in self._places)

    def is_open_for_recordings(self) -> bool:
        """May a short recording begin now?"""
        return self._room_above(self._for_recordings_bytes) >= 0

    def is_open_for_bulk(self) -> bool:
        """May batches of peers come in, and read models be rebuilt?"""
        return self._room_above(self._for_batches_bytes) >= 0

    @contextmanager
    def for_recording(self, size_bytes: int = 0) -> Iterator[None]:
        """Hold room for a recording of a declared size (0: not declared); raises NoRoomError."""
        with self._promise(size_bytes, self._for_recordings_bytes, "recording"):
            yield

    @contextmanager
    def for_batch(self, size_bytes: int) -> Iterator[None]:
        """Hold room for a batch of a peer; raises NoRoomError."""
        with self._promise(size_bytes, self._for_batches_bytes, "batch"):
            yield

    @contextmanager
    def _promise(self, size_bytes: int, floor_bytes: int, what: str) -> Iterator[None]:
        with self._promising:
            left_bytes = self._room_above(floor_bytes)
            if left_bytes < size_bytes:
                raise NoRoomError(
                    f"the disk is almost full and no {what} of this size is begun "
                    f"({max(0, left_bytes)} bytes are left for it); "
                    "free some space, or hand it to another server",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._promised_bytes += size_bytes
        try:
            yield
        finally:
            with self._promising:
                self._promised_bytes -= size_bytes

    def _room_above(self, floor_bytes: int) -> int:
        return self.free_bytes() - self._promised_bytes - floor_bytes
