"""A simulated machine's disk: it forgets what was not synced, fills up, rots and fails.

Every operation is a point where a fault can strike: before it, or after it (done, but nobody was
told). `VirtualFiles` fulfils the file-system port; `Disk` holds what survives a restart.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger.errors import CorruptionError, TransientError
from ledger.storage.files import FileInfo, OpenFile


@functools.lru_cache(maxsize=4096)
def _parent(path: Path) -> Path:
    """Give a path's parent, which it makes anew each time it is asked."""
    return path.parent


@functools.lru_cache(maxsize=4096)
def _parents(path: Path) -> tuple[Path, ...]:
    """Give the folders above a path, the nearest first."""
    return tuple(path.parents)


class Crashed(BaseException):
    """The simulated process dies here. Not an Exception: no product code may catch it."""


@dataclass(slots=True)
class Inode:
    content: bytearray = field(default_factory=bytearray)
    synced_bytes: int = 0
    modified_at_s: float = 0.0
    is_rotten: bool = False


class Names(dict[Path, Inode]):
    """Files by their paths, and those of a folder together. Changed only by what is below."""

    def __init__(self, files: Iterable[tuple[Path, Inode]] = ()) -> None:
        super().__init__()
        self._folders: dict[Path, dict[Path, Inode]] = {}
        for path, inode in files:
            self[path] = inode

    def __setitem__(self, path: Path, inode: Inode) -> None:
        super().__setitem__(path, inode)
        self._folders.setdefault(_parent(path), {})[path] = inode

    def __delitem__(self, path: Path) -> None:
        super().__delitem__(path)
        del self._folders[_parent(path)][path]

    def within(self, folder: Path) -> list[tuple[Path, Inode]]:
        """Give the files of a folder."""
        return list(self._folders.get(folder, {}).items())


@dataclass
class Strikes:
    """When the next fault strikes, counted in operations from now; None: never."""

    crash_in: int | None = None
    crash_is_after: bool = False
    fail_sync_in: int | None = None
    is_full: bool = False


class Disk:
    """What a machine keeps over a restart: its files (and, beside them, its log).

    Paths begin at ``/``, the one folder that is there from the start.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names = Names()
        self.durable_names = Names()
        self.folders: set[Path] = {Path("/")}
        self.durable_folders: set[Path] = {Path("/")}
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

    def confirm(self, path: Path) -> None:
        """Let a sync fail if it is time."""
        if self.strikes.fail_sync_in is None:
            return
        self.strikes.fail_sync_in -= 1
        if self.strikes.fail_sync_in > 0:
            return
        self.strikes.fail_sync_in = None
        raise CorruptionError("the disk could not confirm a write", place=str(path))

    def cut_power(self) -> None:
        """Forget what was not synced: names in unsynced folders, a part of each file's tail."""
        for inode in {id(i): i for i in self.names.values()}.values():
            self._forget_tail(inode)
        self.folders = {f for f in self.durable_folders if self._is_reached(f)}
        self.durable_folders = set(self.folders)
        durable = self.durable_names.items()
        self.names = Names((n, i) for n, i in durable if _parent(n) in self.folders)
        self.durable_names = Names(self.names.items())
        for inode in self.names.values():
            inode.synced_bytes = len(inode.content)

    def _forget_tail(self, inode: Inode) -> None:
        """Keep a part of what was not synced; now and then the length outlived the bytes."""
        kept = self.rng.randint(inode.synced_bytes, len(inode.content))
        lost = len(inode.content) - kept
        del inode.content[kept:]
        if self.rng.random() < 0.25:
            inode.content += bytes(self.rng.randint(0, lost))

    def _is_reached(self, folder: Path) -> bool:
        return all(parent in self.durable_folders for parent in _parents(folder))

    def is_durable(self, path: Path) -> bool:
        """Would this file, as it is now, outlive a power cut?"""
        inode = self.names.get(path)
        return (
            inode is not None
            and self.durable_names.get(path) is inode
            and inode.synced_bytes == len(inode.content)
            and _parent(path) in self.durable_folders
            and self._is_reached(_parent(path))
        )

    def copy(self) -> Disk:
        """Copy all files, as a backup does; what is copied is durable in the copy."""
        twin = Disk(self.rng)
        twins: dict[int, Inode] = {}
        for path, inode in self.names.items():
            if id(inode) not in twins:
                content = bytearray(inode.content)
                twins[id(inode)] = Inode(
                    content, len(content), inode.modified_at_s, inode.is_rotten
                )
            twin.names[path] = twins[id(inode)]
        twin.durable_names = Names(twin.names.items())
        twin.folders = set(self.folders)
        twin.durable_folders = set(self.folders)
        return twin

    def choose(self) -> Path | None:
        """Draw some file; None when there is none."""
        return self.rng.choice(sorted(self.names)) if self.names else None

    def rot(self, path: Path) -> None:
        """Flip one bit in a file at rest."""
        inode = self.names[path]
        inode.is_rotten = True
        content = inode.content
        if content:
            content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)


class VirtualFiles:
    """The file-system port over a `Disk`; ``now_s`` is its clock."""

    def __init__(self, disk: Disk, now_s: Callable[[], float]) -> None:
        self._disk = disk
        self._now_s = now_s

    def make_directory(self, path: Path) -> None:
        disk = self._disk
        missing = [folder for folder in (path, *_parents(path)) if folder not in disk.folders]
        # As the real one does: who made the last one that is there may have died before its sync.
        self._sync_folder_name(_parent(missing[-1]) if missing else path)
        for folder in reversed(missing):
            crash = disk.step()
            disk.folders.add(folder)
            _die_if(crash)
            self._sync_folder_name(folder)

    def create(self, path: Path) -> OpenFile:
        crash = self._disk.step()
        self._expect_free(path)
        inode = self._disk.names[path] = Inode(modified_at_s=self._now_s())
        _die_if(crash)
        return _VirtualFile(self._disk, path, inode, self._now_s)

    def read(self, path: Path, offset_bytes: int = 0, length_bytes: int | None = None) -> bytes:
        crash = self._disk.step(writes=False)
        inode = self._inode(path)
        _die_if(crash)
        end = None if length_bytes is None else offset_bytes + length_bytes
        return bytes(inode.content[offset_bytes:end])

    def info(self, path: Path) -> FileInfo:
        inode = self._inode(path)
        return FileInfo(path, len(inode.content), inode.modified_at_s)

    def exists(self, path: Path) -> bool:
        return path in self._disk.names

    def list(self, folder: Path) -> Iterator[FileInfo]:
        for path in sorted((p for p, _ in self._disk.names.within(folder)), key=str):
            if path in self._disk.names:
                yield self.info(path)

    def folders(self, folder: Path) -> Sequence[Path]:
        return sorted(one for one in self._disk.folders if _parent(one) == folder)

    def touch(self, path: Path, modified_at_s: float) -> None:
        crash = self._disk.step(writes=False)
        self._inode(path).modified_at_s = modified_at_s
        _die_if(crash)

    def replace(self, source: Path, target: Path) -> None:
        crash = self._disk.step()
        inode = self._inode(source)
        self._expect_folder(target)
        if self._disk.names.get(target) is not inode:
            self._disk.names[target] = inode
            del self._disk.names[source]
        _die_if(crash)

    def link(self, source: Path, target: Path) -> bool:
        crash = self._disk.step()
        inode = self._inode(source)
        self._expect_free(target)
        self._disk.names[target] = inode
        _die_if(crash)
        return True

    def remove(self, path: Path) -> None:
        crash = self._disk.step(writes=False)
        if path in self._disk.names:
            del self._disk.names[path]
        _die_if(crash)

    def sync_file(self, path: Path) -> None:
        _sync_inode(self._disk, path, self._inode(path))

    def sync_directory(self, path: Path) -> None:
        crash = self._disk.step(writes=False)
        disk = self._disk
        if path not in disk.folders:
            raise FileNotFoundError(str(path))
        disk.confirm(path)
        for name, _ in disk.durable_names.within(path):
            del disk.durable_names[name]
        for name, inode in disk.names.within(path):
            disk.durable_names[name] = inode
        new = disk.folders - disk.durable_folders
        disk.durable_folders |= {folder for folder in new if _parent(folder) == path}
        _die_if(crash)

    def _sync_folder_name(self, folder: Path) -> None:
        crash = self._disk.step(writes=False)
        self._disk.confirm(folder)
        self._disk.durable_folders.add(folder)
        _die_if(crash)

    def _expect_folder(self, path: Path) -> None:
        if _parent(path) not in self._disk.folders:
            raise FileNotFoundError(str(path))

    def _expect_free(self, path: Path) -> None:
        self._expect_folder(path)
        if path in self._disk.names:
            raise FileExistsError(str(path))

    def _inode(self, path: Path) -> Inode:
        try:
            return self._disk.names[path]
        except KeyError:
            raise FileNotFoundError(str(path)) from None


class _VirtualFile:
    def __init__(self, disk: Disk, path: Path, inode: Inode, now_s: Callable[[], float]) -> None:
        self._disk, self._path, self._inode, self._now_s = disk, path, inode, now_s

    def write(self, data: bytes) -> None:
        crash = self._disk.step()
        self._inode.content += data
        self._inode.modified_at_s = self._now_s()
        _die_if(crash)

    def sync(self) -> None:
        _sync_inode(self._disk, self._path, self._inode)

    def close(self) -> None:
        pass


def _sync_inode(disk: Disk, path: Path, inode: Inode) -> None:
    crash = disk.step(writes=False)
    disk.confirm(path)
    inode.synced_bytes = len(inode.content)
    _die_if(crash)


def _die_if(crash: bool) -> None:
    if crash:
        raise Crashed
