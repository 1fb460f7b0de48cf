"""A disk under a running server that becomes full to the last byte, and has room again."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.mounted_disk import SmallDisk


class ShrinkingDisk:
    """A mounted file system in memory; it is full because it shrinks to what stands in it."""

    def __init__(self, disk: SmallDisk, size_bytes: int) -> None:
        self.root = disk.root
        self._disk = disk
        self._size_bytes = size_bytes

    @property
    def free_bytes(self) -> int:
        return self._disk.free_bytes

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Leave so much room; what is written meanwhile takes of it."""
        used = self._size_now() - self.free_bytes
        self._resize(max(4096, used + leave_bytes))

    def free(self) -> None:
        """Give it its size again."""
        self._resize(self._size_bytes)

    def _size_now(self) -> int:
        command = ["findmnt", "--bytes", "--noheadings", "--output", "SIZE", str(self.root)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def _resize(self, size_bytes: int) -> None:
        # Shrinking below what stands in it is refused; a server may have written meanwhile.
        command = ["mount", "-o", f"remount,size={size_bytes}", str(self.root)]
        subprocess.run(command, check=False, capture_output=True)


def copy_out(root: Path, target: Path) -> None:
    """Keep what stands on a disk that will be gone."""
    subprocess.run(["cp", "-a", str(root), str(target)], check=True)
