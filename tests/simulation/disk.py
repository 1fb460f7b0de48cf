"""A simulated machine's disk: it forgets what was not synced, fills up, rots and fails.

Every operation is a point where a fault can strike: before it, or after it (done, but nobody was
told). `VirtualFiles` fulfils the file-system port; `Disk` holds what survives a restart.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ledger.errors import CorruptionError, TransientError
from ledger.storage.files import FileInfo, OpenFile


class Crashed(BaseException):
    """The simulated process dies here. Not an Exception: no product code may catch it."""


@dataclass(slots=True)
class Inode:
    content: bytearray = field(default_factory=bytearray)
    synced_bytes: int = 0
    modified_at_s: float = 0.0


@dataclass
class Strikes:
    """When the next fault strikes, counted in operations from now; None: never."""

    crash_in: int | None = None
    crash_is_after: bool = False
    fail_sync_in: int | None = None
    is_full: bool = False


class Disk:
    """What a machine keeps over a restart: its files (and, beside them, its log)."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names: dict[Path, Inode] = {}
        self.durable_names: dict[Path, Inode] = {}
        self.strikes = Strikes()
        self.operations = 0

    def step(self, *, writes: bool = True) -> bool:
        """Count an operation; strike if it is time. True: crash right after it."""
        self.operations += 1
        if writes and self.strikes.is_full:
            raise TransientError("no room left on the simulated disk", retry_after_s=5.0)
        if self.strikes.crash_in is None:
            return False
        self.strikes.crash_in -= 1
        if self.strikes.crash_in > 0:
            return False
        self.strikes.crash_in = None
        if not self.strikes.crash_is_after:
            raise Crashed
        return True

    def sync_fails(self) -> bool:
        if self.strikes.fail_sync_in is None:
            return False
        self.strikes.fail_sync_in -= 1
        if self.strikes.fail_sync_in > 0:
            return False
        self.strikes.fail_sync_in = None
        return True

    def cut_power(self) -> None:
        """Forget what was not synced: names in unsynced folders, a part of each file's tail."""
        for inode in {id(i): i for i in self.names.values()}.values():
            tail = len(inode.content) - inode.synced_bytes
            del inode.content[inode.synced_bytes + self.rng.randint(0, tail) :]
        self.names = dict(self.durable_names)
        for inode in self.names.values():
            inode.synced_bytes = len(inode.content)

    def rot(self) -> Path | None:
        """Flip one bit in some file at rest; gives its name."""
        if not self.names:
            return None
        path = self.rng.choice(sorted(self.names))
        content = self.names[path].content
        if content:
            content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
        return path


class VirtualFiles:
    """The file-system port over a `Disk`."""

    def __init__(self, disk: Disk, now_s: object) -> None:
        self._disk = disk
        self._now_s = now_s

    def _after(self, crash: bool) -> None:
        if crash:
            raise Crashed

    def create(self, path: Path) -> OpenFile:
        crash = self._disk.step()
        if path in self._disk.names:
            raise FileExistsError(str(path))
        inode = Inode(modified_at_s=self._now_s())  # type: ignore[operator]
        self._disk.names[path] = inode
        self._after(crash)
        return _VirtualFile(self._disk, path, inode, self._now_s)

    def read(self, path: Path, offset: int = 0, length: int | None = None) -> bytes:
        crash = self._disk.step(writes=False)
        inode = self._inode(path)
        self._after(crash)
        end = None if length is None else offset + length
        return bytes(inode.content[offset:end])

    def replace(self, source: Path, target: Path) -> None:
        crash = self._disk.step()
        self._disk.names[target] = self._inode(source)
        del self._disk.names[source]
        self._after(crash)

    def link(self, source: Path, target: Path) -> None:
        crash = self._disk.step()
        if target in self._disk.names:
            raise FileExistsError(str(target))
        self._disk.names[target] = self._inode(source)
        self._after(crash)

    def remove(self, path: Path) -> None:
        crash = self._disk.step(writes=False)
        self._disk.names.pop(path, None)
        self._after(crash)

    def truncate(self, path: Path, size_bytes: int) -> None:
        crash = self._disk.step()
        inode = self._inode(path)
        del inode.content[size_bytes:]
        inode.synced_bytes = len(inode.content)
        self._after(crash)

    def sync_directory(self, path: Path) -> None:
        crash = self._disk.step()
        durable = self._disk.durable_names
        for name in [n for n in durable if n.parent == path]:
            del durable[name]
        durable.update({n: i for n, i in self._disk.names.items() if n.parent == path})
        self._after(crash)

    def exists(self, path: Path) -> bool:
        return path in self._disk.names

    def list(self, folder: Path) -> Iterator[FileInfo]:
        for path, inode in sorted(self._disk.names.items()):
            if folder in path.parents:
                yield FileInfo(path, len(inode.content), inode.modified_at_s)

    def _inode(self, path: Path) -> Inode:
        try:
            return self._disk.names[path]
        except KeyError:
            raise FileNotFoundError(str(path)) from None


class _VirtualFile:
    def __init__(self, disk: Disk, path: Path, inode: Inode, now_s: object) -> None:
        self._disk, self._path, self._inode, self._now_s = disk, path, inode, now_s

    def write(self, data: bytes) -> None:
        crash = self._disk.step()
        self._inode.content += data
        self._inode.modified_at_s = self._now_s()  # type: ignore[operator]
        if crash:
            raise Crashed

    def sync(self) -> None:
        crash = self._disk.step(writes=False)
        if self._disk.sync_fails():
            raise CorruptionError("the file system failed", place=str(self._path))
        self._inode.synced_bytes = len(self._inode.content)
        if crash:
            raise Crashed

    def close(self) -> None:
        pass
