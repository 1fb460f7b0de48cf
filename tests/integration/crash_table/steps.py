"""Counts what a process makes durable, and lets it die at one of these steps.

Wrapped around the ports, so that the program knows nothing of it: the file system, the log's
commits and the peer cursors. A process that died gets nothing done any more, whatever still runs
of it. Reading is no step: it leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ledger.checkpoint import read_log_name
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint, CosignedCheckpoints
from ledger.storage.event_log import Append, Appended, LogRecorder
from ledger.storage.files import FileInfo, Files, OpenFile
from ledger.storage.group_commit import GroupCommit
from ledger.storage.peer_cursors import CursorStore, PeerCursor
from tests.simulation.disk import Crashed

Result = TypeVar("Result")

DATA = Path("/data")
SPOOL = DATA / "spool"
SET_ASIDE = SPOOL / "set-aside"
BLOBS = DATA / "blobs"


@dataclass(frozen=True)
class Crash:
    """Where a process dies."""

    step: int
    """1-based."""
    is_applied: bool
    """Done, but nobody was told; else: not done."""


class Steps:
    """The durable steps of one process, in order."""

    def __init__(self, on_death: Callable[[], None]) -> None:
        self.taken: list[str] = []
        self.crash: Crash | None = None
        self.is_counting = False
        self.is_dead = False
        self.before_step: Callable[[str], None] = lambda name: None
        """Told of each step before it is taken."""
        self._on_death = on_death

    def take(self, name: str, do: Callable[[], Result]) -> Result:
        """Do one step, or die at it."""
        if self.is_dead:
            raise Crashed
        if not self.is_counting:
            return do()
        self.taken.append(name)
        self.before_step(name)
        if self.crash is None or len(self.taken) != self.crash.step:
            return do()
        if self.crash.is_applied:
            do()
        self.die()
        raise Crashed

    def die(self) -> None:
        """End the process here; again is fine."""
        self.is_dead = True
        self._on_death()


class CountedFiles:
    """A file system whose changes are steps."""

    def __init__(self, files: Files, steps: Steps) -> None:
        self._files = files
        self._take = steps.take

    def make_directory(self, path: Path) -> None:
        self._take(f"make {_name(path)}", lambda: self._files.make_directory(path))

    def create(self, path: Path) -> OpenFile:
        file = self._take(f"create {_name(path)}", lambda: self._files.create(path))
        return _CountedFile(file, _name(path), self._take)

    def read(self, path: Path, offset_bytes: int = 0, length_bytes: int | None = None) -> bytes:
        return self._files.read(path, offset_bytes, length_bytes)

    def info(self, path: Path) -> FileInfo:
        return self._files.info(path)

    def exists(self, path: Path) -> bool:
        return self._files.exists(path)

    def list(self, folder: Path) -> Iterator[FileInfo]:
        return self._files.list(folder)

    def folders(self, folder: Path) -> Sequence[Path]:
        return self._files.folders(folder)

    def touch(self, path: Path, modified_at_s: float) -> None:
        if self._files.exists(path):  # else it is a question, whose answer is no
            self._take(f"touch {_name(path)}", lambda: None)
        self._files.touch(path, modified_at_s)

    def replace(self, source: Path, target: Path) -> None:
        name = f"rename {_name(source)} to {_name(target)}"
        self._take(name, lambda: self._files.replace(source, target))

    def link(self, source: Path, target: Path) -> bool:
        name = f"link {_name(source)} as {_name(target)}"
        return self._take(name, lambda: self._files.link(source, target))

    def remove(self, path: Path) -> None:
        if self._files.exists(path):  # else nothing is changed
            self._take(f"remove {_name(path)}", lambda: self._files.remove(path))

    def sync_file(self, path: Path) -> None:
        self._take(f"sync {_name(path)}", lambda: self._files.sync_file(path))

    def sync_directory(self, path: Path) -> None:
        name = f"sync the names in {_name(path)}"
        self._take(name, lambda: self._files.sync_directory(path))


class _CountedFile:
    def __init__(
        self, file: OpenFile, name: str, take: Callable[[str, Callable[[], None]], None]
    ) -> None:
        self._file, self._name, self._take = file, name, take

    def write(self, data: bytes) -> None:
        self._take(f"write to {self._name}", lambda: self._file.write(data))

    def sync(self) -> None:
        self._take(f"sync {self._name}", self._file.sync)

    def close(self) -> None:
        self._file.close()


class CountedCheckpoints:
    """Co-signed checkpoints whose keeping is a step."""

    def __init__(self, checkpoints: CosignedCheckpoints, steps: Steps) -> None:
        self._checkpoints = checkpoints
        self._steps = steps
        self.newest = checkpoints.newest
        self.all = checkpoints.all

    def add(self, new: CosignedCheckpoint, after: int) -> bool:
        owner, _ = read_log_name(new.log)
        name = f"keep a checkpoint of {owner}, co-signed by {new.witness}"
        return self._steps.take(name, lambda: self._checkpoints.add(new, after))


class CountedCursors:
    """Peer cursors whose saves are steps."""

    def __init__(self, cursors: CursorStore, steps: Steps) -> None:
        self._cursors = cursors
        self._take = steps.take

    def load(self, peer: str) -> PeerCursor | None:
        return self._cursors.load(peer)

    def save(self, cursor: PeerCursor) -> None:
        self._take("save the cursor of the peer", lambda: self._cursors.save(cursor))


def count_commits(recorder: LogRecorder, steps: Steps) -> None:
    """Make each transaction of a log a step."""

    def commit(appends: Sequence[Append]) -> Sequence[Appended | Exception]:
        return steps.take(_commit_name(appends), lambda: recorder.commit(appends))

    recorder.group = GroupCommit(commit)


def _commit_name(appends: Sequence[Append]) -> str:
    topics = [f"`{event.topic}`" for append in appends for event in append.events]
    if any(append.tracking is not None for append in appends):
        topics.append("how far the origin is taken in")
    return f"commit {', '.join(topics)}"


_ROLES = {
    DATA: "the data folder",
    SPOOL: "the spool",
    SET_ASIDE: "set-aside",
    BLOBS: "the blob store",
    BLOBS / "tmp": "tmp",
    BLOBS / "packs": "packs",
}
_KINDS = {".zst": "recording", ".torn": "torn tail", ".txt": "reason"}


def _name(path: Path) -> str:
    """Say what a path is, whatever ids it has in it."""
    if path in _ROLES:
        return _ROLES[path]
    suffix = path.suffix.removeprefix(".")
    if path.parent == SPOOL:
        return "the mended spool file" if suffix == "new" else "the spool file"
    if path.parent == SET_ASIDE:
        kind = _KINDS[Path(path.stem).suffix if suffix == "new" else path.suffix]
        return f"the new {kind}" if suffix == "new" else f"the {kind} set aside"
    if path.parent == BLOBS:
        return "the folder of the blob"
    return {"tmp": "a temporary blob", "packs": "the pack"}.get(path.parent.name, "the blob")
