"""A real file system of a few megabytes, and ballast that fills it to the last byte.

It needs the right to mount. Without it the tests that ask for one are skipped, loudly: what
`tests.support.small_disk` can do for one process is no full disk for a server beside it.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BLOCK_BYTES = 4096


class SmallDisk:
    """A mounted file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    @property
    def free_bytes(self) -> int:
        facts = os.statvfs(self.root)
        return facts.f_bavail * facts.f_frsize

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Write ballast until so much is free, down to nothing at all."""
        with self._ballast.open("ab", buffering=0) as ballast:
            while self.free_bytes > leave_bytes:
                try:
                    ballast.write(bytes(min(1 << 20, self.free_bytes - leave_bytes)))
                except OSError:
                    break

    def free(self) -> None:
        """Throw all ballast away."""
        self._ballast.unlink()


@contextmanager
def mounted_disk(root: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Mount an empty file system over a directory; what stood in it stands in the new one."""
    kept = {path.relative_to(root): path for path in sorted(root.rglob("*"))}
    contents = {
        name: (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
        for name, path in kept.items()
    }
    options = f"size={size_bytes},mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "small-disk", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        for name, (mode, data) in contents.items():
            if data is None:
                (root / name).mkdir()
            else:
                (root / name).write_bytes(data)
            (root / name).chmod(mode & 0o7777)
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", "-l", str(root)], check=False)
