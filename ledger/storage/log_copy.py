"""The copy of another server's log, with its blobs: a directory that looks like a backup.

    checkpoint         the log's signed word on what is in here
    checkpoint.next    the same with its SHA-256, or that of what is being committed now
    ledger.sqlite      the log: every event byte for byte, at its own position
    blobs/             what its events name

Which of the two checkpoints counts is decided by the log: the next one is on the disk before the
commit that it speaks of. So at every moment, also after a crash, one of them fits.

Source: claim 10; C2SP tlog-checkpoint.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from ledger.checkpoint import parse_checkpoint, read_log_name
from ledger.errors import LedgerError, NotFoundError
from ledger.events import ServerId
from ledger.storage.blob_store import BlobStore
from ledger.storage.cosigned_checkpoints import CosignedCheckpoints
from ledger.storage.event_log import LogHead, LogRecorder
from ledger.storage.files import Files, SystemFiles, write_durably
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.open_recorder import open_recorder
from ledger.storage.sql_cosigned_checkpoints import SqlCosignedCheckpoints

LOG_FILE: Final = "ledger.sqlite"
BLOBS: Final = "blobs"
CHECKPOINT_FILE: Final = "checkpoint"
_NEXT: Final = "checkpoint.next"
_SUM_CHARACTERS: Final = 64
CURRENT_COPY: Final = "current"


class CheckpointFile:
    """The signed checkpoint beside a log that is a copy."""

    def __init__(self, directory: Path, files: Files | None = None) -> None:
        self._directory = directory
        self._files = files or SystemFiles()

    def stage(self, note: str, head: LogHead) -> None:
        """Keep the checkpoint of what is about to be committed; durable on return.

        ``head`` is what is committed so far. Who committed it may have died before it could settle
        its checkpoint: that one must not make room for the next.
        """
        last = self._reads(_NEXT, head)
        if last is not None and self._reads(CHECKPOINT_FILE, head) is None:
            self.settle(last)
        # A crash after this and before the commit leaves a checkpoint of what is not there: it does
        # not fit the head, the one beside it does.
        write_durably(self._files, self._directory / _NEXT, (note + _sum(note)).encode())

    def settle(self, note: str) -> None:
        """What was staged, this note, is committed now.

        A crash before this leaves it staged, where `read` finds it too. It stays in both places:
        without its checkpoint a copy is of no use, and one flipped bit must not be enough for that.
        """
        write_durably(self._files, self._directory / CHECKPOINT_FILE, note.encode())

    def finish(self, note: str) -> None:
        """What was staged, this note, is committed, and so is all else: nothing stays staged."""
        self.settle(note)
        self._files.remove(self._directory / _NEXT)

    def read(self, head: LogHead) -> str | None:
        """Give the checkpoint for just this head, or None. Signatures are the caller's to check.

        The one that has a checksum comes first: a bit that flipped in a signature shows only there.
        """
        return self._reads(_NEXT, head) or self._reads(CHECKPOINT_FILE, head)

    def _reads(self, name: str, head: LogHead) -> str | None:
        try:
            text = self._files.read(self._directory / name).decode()
            if name == _NEXT:
                text, told = text[:-_SUM_CHARACTERS], text[-_SUM_CHARACTERS:]
                if told != _sum(text):
                    return None
            _, checkpoint = parse_checkpoint(text)
            _, incarnation = read_log_name(checkpoint.log)
        except (FileNotFoundError, UnicodeDecodeError, LedgerError):
            return None
        found = (incarnation, checkpoint.size, checkpoint.root)
        return text if found == (head.incarnation, head.position, head.root) else None


def _sum(note: str) -> str:
    return hashlib.sha256(note.encode()).hexdigest()


class KeptCopy(Protocol):
    """A copy of a log, wherever its parts are kept."""

    @property
    def name(self) -> str:
        """Which of several copies this one is."""

    @property
    def recorder(self) -> LogRecorder:
        """The log."""

    @property
    def blobs(self) -> BlobStore:
        """What its events name."""

    @property
    def cosigned(self) -> CosignedCheckpoints:
        """What witnesses signed of it."""

    @property
    def checkpoint(self) -> CheckpointFile:
        """What its server signed of it."""


class Copies(Protocol):
    """All copies of other servers' logs that a server keeps."""

    def current(self, of: ServerId) -> KeptCopy:
        """Open the copy that grows; makes it."""

    def copies(self, of: ServerId) -> Sequence[KeptCopy]:
        """Open all copies of a server's log; none for a server that is not mirrored."""

    def set_aside(self, of: ServerId, at: datetime) -> Path:
        """Keep the copy that grows as it is, for ever; the next one begins from nothing."""


class LogCopy:
    """An open copy. One process writes it; others may read."""

    def __init__(
        self, directory: Path, *, is_new: bool = False, blobs: BlobStore | None = None
    ) -> None:
        """Open the copy, or make it with ``is_new``; raises NotFoundError when there is none.

        ``blobs`` has its blobs, if they are not in the directory.
        """
        self.directory = directory
        self.file = directory / LOG_FILE
        if is_new:
            # Voices are in there: nobody else may read it.
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not self.file.is_file():
            raise NotFoundError(f"{directory} holds no copy of a log: there is no {LOG_FILE} in it")
        self.url = f"sqlite:///{self.file.absolute()}"
        self.recorder = open_recorder(self.url)
        self.blobs = blobs or FilesystemBlobStore(directory / BLOBS)
        self.cosigned = SqlCosignedCheckpoints(self.url)
        self.checkpoint = CheckpointFile(directory)

    @property
    def name(self) -> str:
        """Which of several copies this one is."""
        return self.directory.name

    def close(self) -> None:
        """Free files. No other call may be running or follow."""
        self.cosigned.close()
        self.recorder.close()


class CopyShelf:
    """All copies of other servers' logs that this server keeps: ``ROOT/SERVER/COPY``.

    The one called ``current`` grows. One that its log does not continue any more is kept aside
    under the time of that, and never touched again but to destroy keys. For any thread.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._open: dict[Path, LogCopy] = {}
        self._aside: list[LogCopy] = []

    def current(self, of: ServerId) -> LogCopy:
        """Open the copy that grows; makes it."""
        return self._get(self.root / of / CURRENT_COPY, is_new=True)

    def copies(self, of: ServerId) -> list[LogCopy]:
        """Open all copies of a server's log; none for a server that is not mirrored."""
        folder = self.root / of
        names = sorted(path.parent.name for path in folder.glob(f"*/{LOG_FILE}"))
        return [self._get(folder / name) for name in names]

    def set_aside(self, of: ServerId, at: datetime) -> Path:
        """Keep the copy that grows as it is, for ever; the next one begins from nothing."""
        path = self.root / of / CURRENT_COPY
        target = path.with_name(f"aside-{at:%Y%m%dT%H%M%S.%fZ}")
        with self._lock:
            copy = self._open.pop(path, None)
            if copy is not None:
                self._aside.append(copy)  # somebody may be reading it
            path.rename(target)
            SystemFiles().sync_directory(target.parent)
        return target

    def close(self) -> None:
        """Close all copies. No other call may be running or follow."""
        for copy in (*self._open.values(), *self._aside):
            copy.close()

    def _get(self, path: Path, *, is_new: bool = False) -> LogCopy:
        with self._lock:
            if path not in self._open:
                self._open[path] = LogCopy(path, is_new=is_new)
            return self._open[path]
