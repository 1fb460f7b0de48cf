"""Room on the disk that is kept for the log: a file whose only use is to become smaller.

When a disk is full, events can still be recorded: that a call came in, that a home has signed for
a message. They are tiny, and each is worth more than all that could be written instead. So the log
holds a file with nothing in it; when it finds no room it takes a slice off that file and tries
again, and when there is room once more the file is made whole.

Others that write to the same disk may snatch what is freed; that is why it goes slice by slice.
Only for a log that is a file here: a database server has its own disk.

Source: claim 10.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Final

_LOG: Final = logging.getLogger(__name__)

SLICE_BYTES: Final = 1 << 20
"""A commit takes some pages of 4 KiB: a slice is enough for many, also in a log of large pages."""


class LogReserve:
    """The reserve of one log. Safe to use from any thread."""

    def __init__(self, file: Path, size_bytes: int) -> None:
        """Use what an earlier run has left in ``file``; nothing is written before `fill`."""
        self._file = file
        self._size_bytes = size_bytes
        self._changing = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """How much it holds when it is whole."""
        return self._size_bytes

    def is_there(self) -> bool:
        """Has it ever been filled?"""
        return self._file.exists()

    def held_bytes(self) -> int:
        """How much it holds now."""
        try:
            return self._file.stat().st_size
        except FileNotFoundError:
            return 0

    def give(self) -> bool:
        """Free a slice; False when nothing is left."""
        with self._changing:
            held_bytes = self.held_bytes()
            if held_bytes == 0:
                return False
            left_bytes = max(0, held_bytes - SLICE_BYTES)
            try:
                os.truncate(self._file, left_bytes)
            except OSError as error:
                _LOG.error("action=reserve-not-freed file=%s error=%s", self._file, error)
                return False
            _LOG.error(
                "action=reserve-used left_bytes=%d remedy=%s",
                left_bytes,
                "the disk of the log is full: free some space",
            )
            return True

    def fill(self) -> bool:
        """Make it whole again; False when the disk has no room for that.

        A crash in here leaves a smaller one, which the next call makes whole.
        """
        with self._changing:
            held_bytes = self.held_bytes()
            if held_bytes == self._size_bytes:
                return True
            try:
                descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    if held_bytes < self._size_bytes:
                        missing_bytes = self._size_bytes - held_bytes
                        os.posix_fallocate(descriptor, held_bytes, missing_bytes)
                    else:
                        os.ftruncate(descriptor, self._size_bytes)
                finally:
                    os.close(descriptor)
            except OSError as error:
                _LOG.warning("action=reserve-not-whole file=%s error=%s", self._file, error)
                return False
            return True
