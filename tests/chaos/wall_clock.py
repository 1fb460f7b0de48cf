"""A wall clock for one process, off by as much as a test likes, and made to jump while it runs.

A few lines of C stand before the C library's clock (`wall_clock.c`, compiled here with ``cc``), so
the program under test knows nothing of it. Intervals, timers and the times of files stay true.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("wall_clock.c")


class WallClock:
    """The clock of one server."""

    def __init__(self, folder: Path, server: str) -> None:
        """Raises FileNotFoundError where there is no C compiler."""
        self._library = folder / "wall_clock.so"
        self._file = folder / f"{server}.clock"
        _compile(self._library)
        self._file.write_bytes(bytes(8))

    @property
    def command(self) -> tuple[str, ...]:
        """What to start a program with, so that it has this clock."""
        return ("env", f"LD_PRELOAD={self._library}", f"CHAOS_CLOCK={self._file}")

    def set_off(self, seconds: float) -> None:
        """Let it jump to so many seconds after the true time."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", round(seconds * 1e9)))


@cache
def _compile(library: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler here (cc): clocks cannot be set apart")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True)
