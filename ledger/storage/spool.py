"""The spool: recordings while they are made, one file a call, never more than a second behind.

`Recording.append` writes whole frames and syncs them at most once a second, so that a kill or a
power cut costs at most what came since the last sync. The finished spool file *is* the stored form:
the blob store gives it a second name (`BlobStore.put_file`). The spool's own name goes only when
the caller says so, once the events are committed (`Recording.discard`): as long as it is there, a
restart finds it (`Spool.interrupted`) and nothing that was spoken is lost on the way.

A recording that is begun with a key is sealed from its first byte on: the spool never holds it
readable, and the file that is shipped and kept is ciphertext.

Nothing is thrown away that a person may want: what cannot be a message moves to ``set-aside``, a
torn tail is kept there too.

Source: claims 3, 10 and 11.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from ledger.errors import (
    ConflictError,
    CorruptionError,
    LedgerError,
    NotFoundError,
    TransientError,
)
from ledger.ids import RandomBytes
from ledger.sealing import MessageKey
from ledger.storage.files import Files, OpenFile, SystemFiles, write_durably
from ledger.storage.sealed_recording import FindKey, SealedRecordingWriter, decode_sealed
from ledger.storage.stored_form import RecordingMetadata, StoredFormWriter, decode
from ledger.storage.torn_spool import InterruptedRecording, mend

SYNC_INTERVAL_S: Final = 1.0
"""What a crash may cost of a call."""

SET_ASIDE: Final = "set-aside"
"""Folder in a spool's directory: recordings that cannot become a message, for a person."""
_SUFFIX: Final = ".zst"
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FinishedRecording:
    """A recording that is whole, durable, and still in the spool."""

    path: Path
    blob_digest: str
    """SHA-256 of the stored form: the address to `put_file` it under."""
    blob_size_bytes: int
    received_digest: str
    received_bytes_count: int
    files: Files = field(repr=False)
    key: MessageKey | None = None
    """What it is sealed with; None: it is not."""

    def read(self, max_bytes: int) -> bytes:
        """Give the received bytes, verified frame by frame."""
        data, place = self.files.read(self.path), str(self.path)
        if self.key is None:
            return decode(data, max_bytes=max_bytes, place=place)
        return decode_sealed(data, self.key, max_bytes=max_bytes, place=place)


def _no_key(call_id: UUID) -> MessageKey:
    raise NotFoundError(f"the key of call {call_id} is not on this server")


class Spool:
    """The directory of recordings that are being made. One process at a time."""

    def __init__(
        self,
        directory: Path,
        *,
        files: Files | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
        random_bytes: RandomBytes = os.urandom,
        find_key: FindKey = _no_key,
    ) -> None:
        """Keep recordings below ``directory``; ``find_key`` opens the sealed ones left behind."""
        self.directory = directory
        self.random_bytes = random_bytes
        self._find_key = find_key
        self.files = files or SystemFiles()
        self._set_aside = directory / SET_ASIDE
        self._monotonic_s = monotonic_s
        self._now_s = now_s
        self._claims: set[Path] = set()
        """Files that somebody in this process works on."""
        self._claiming = threading.Lock()
        self.files.make_directory(directory)
        self.files.make_directory(self._set_aside)

    def open(
        self, call_id: UUID, metadata: RecordingMetadata, key: MessageKey | None = None
    ) -> Recording:
        """Begin to record a call, sealed with its key. Durable from the first sync on.

        What an interrupted upload of the same call left is set aside: the whole one comes now.
        Raises ConflictError while the call's recording is being made: until it is closed before its
        end, or released after it.
        """
        path = self._path(call_id)
        self.claim(path)
        try:
            if self.files.exists(path):
                self.set_aside(path, "the upload broke off and was begun anew")
            return Recording(self, path, metadata, key, self._monotonic_s)
        except BaseException:
            self.release(path)
            raise

    def reserve(self, call_id: UUID) -> None:
        """Keep a call from being recorded, until it is freed.

        Raises ConflictError while it is being recorded, or was and is not dealt with yet.
        """
        path = self._path(call_id)
        self.claim(path)
        if self.files.exists(path):
            self.release(path)
            raise ConflictError(
                f"a recording of call {call_id} is being dealt with; try again soon"
            )

    def free(self, call_id: UUID) -> None:
        """Let it be recorded again."""
        self.release(self._path(call_id))

    def interrupted(self, idle_for_s: float = 0.0) -> list[InterruptedRecording]:
        """Give what was left behind, the oldest call first, each cut after its last whole frame.

        Only what nobody works on and was not written to for that long. Each is claimed: `release`
        it, whatever became of it. What is cut off is kept in ``set-aside``. May be called again
        after a crash in it. One that cannot be mended now (the disk is full, say) is logged, left
        out, and met again next time; one whose key is not here, or was destroyed, is set aside.
        """
        paths = sorted(f.path for f in self.files.list(self.directory))
        claimed = [p for p in paths if p.suffix == _SUFFIX and self._claim_idle(p, idle_for_s)]
        return [mended for path in claimed if (mended := self._mend(path)) is not None]

    def _mend(self, path: Path) -> InterruptedRecording | None:
        """Give what a left-over holds; None when that cannot be had now, so that others can."""
        try:
            return mend(self.files, path, self._keep_torn, self._find_key, self.random_bytes)
        except NotFoundError as error:
            # The log went back behind its call, or the call was erased: nobody can hear it.
            _LOG.error("action=recording-set-aside file=%s error=%s", path, error)
            self._set_aside_unheard(path, error.message)
            return None
        except (LedgerError, FileNotFoundError) as error:
            _LOG.error("action=recording-not-recovered file=%s error=%s", path, error)
            self.release(path)
            return None

    def _keep_torn(self, path: Path, torn: bytes) -> Path:
        """Keep what is cut off a left-over; durable on return.

        An attempt that came no further may have kept it already: on a full disk it must not take
        room each time.
        """
        tail = self._free_name(path.name.removesuffix(_SUFFIX), ".torn", unless_holding=torn)
        if self.files.exists(tail):
            self.files.sync_directory(self._set_aside)
        else:
            write_durably(self.files, tail, torn)
        return tail

    def _set_aside_unheard(self, path: Path, reason: str) -> None:
        try:
            self.set_aside(path, reason)
        except LedgerError as error:
            _LOG.error("action=recording-not-set-aside file=%s error=%s", path, error)
        finally:
            self.release(path)

    def claim(self, path: Path) -> None:
        """Keep others off a file; raises ConflictError when somebody works on it already."""
        with self._claiming:
            if path in self._claims:
                raise ConflictError(
                    f"the call of {path.name} is being recorded already; wait for that to end"
                )
            self._claims.add(path)

    def release(self, path: Path) -> None:
        """Let others work on a file; again is fine."""
        with self._claiming:
            self._claims.discard(path)

    def _claim_idle(self, path: Path, idle_for_s: float) -> bool:
        try:
            self.claim(path)
        except ConflictError:
            return False
        try:
            modified_at_s = self.files.info(path).modified_at_s
            is_idle = idle_for_s <= 0 or self._now_s() - modified_at_s >= idle_for_s
        except FileNotFoundError:
            is_idle = False
        if not is_idle:
            self.release(path)
        return is_idle

    def set_aside(self, path: Path, reason: str) -> Path:
        """Move a spool file to where nothing takes it for a recording; give where that is.

        Durable on return, with a file beside it that says why. The bytes are as they were.
        """
        target = self._free_name(path.name.removesuffix(_SUFFIX), _SUFFIX)
        note = target.with_suffix(".reason.txt")
        with contextlib.suppress(TransientError):
            # On a full disk the reason is lost (the event has it too), the recording is not.
            write_durably(self.files, note, f"{reason}\n".encode())
        # Under both names until the new one is durable: if that sync fails, the next one of the
        # spool must not make it durable that the old name is gone. A crash may leave both.
        is_linked = self.files.link(path, target)
        if not is_linked:
            self.files.replace(path, target)
        self.files.sync_directory(self._set_aside)
        if is_linked:
            self.files.remove(path)
        self.files.sync_directory(self.directory)
        return target

    def discard(self, path: Path) -> None:
        """Drop a spool file whose bytes are kept elsewhere or are not wanted; absent is fine."""
        self.files.remove(path)
        # Not synced: after a crash it may be back, and recovery finds that it is known already.

    def _path(self, call_id: UUID) -> Path:
        return self.directory / f"{call_id}{_SUFFIX}"

    def _holds(self, path: Path, data: bytes) -> bool:
        try:
            return self.files.read(path) == data
        except (LedgerError, FileNotFoundError):
            return False  # What cannot be read is none of these, and stays as it is.

    def _free_name(self, stem: str, suffix: str, unless_holding: bytes | None = None) -> Path:
        """Give a path in ``set-aside`` that nothing has yet, or only just these bytes."""
        candidate, number = self._set_aside / f"{stem}{suffix}", 1
        while self.files.exists(candidate):
            if unless_holding is not None and self._holds(candidate, unless_holding):
                return candidate
            number += 1
            candidate = self._set_aside / f"{stem}-{number}{suffix}"
        return candidate


class Recording:
    """One call's recording while it is made. For one thread at a time.

    A TransientError (the disk is full) leaves what was written before as it is; the bytes that did
    not fit are tried again by the next call. After a CorruptionError the recording takes no more.
    """

    def __init__(
        self,
        spool: Spool,
        path: Path,
        metadata: RecordingMetadata,
        key: MessageKey | None,
        monotonic_s: Callable[[], float],
    ) -> None:
        self.path = path
        self._spool = spool
        self._monotonic_s = monotonic_s
        self._key = key
        self._writer = (
            StoredFormWriter(metadata)
            if key is None
            else SealedRecordingWriter(metadata, key, spool.random_bytes)
        )
        self._unwritten = self._writer.header()
        self._is_named = False
        self._is_closed = False
        self._file = _create(spool.files, path)
        self._synced_at_s = monotonic_s()

    @property
    def received_bytes_count(self) -> int:
        """How much was taken so far."""
        return self._writer.received_size_bytes

    def append(self, data: bytes, *, force: bool = False) -> None:
        """Take bytes as they come in; on the disk within a second, or on return with ``force``."""
        self._check_open()
        self._unwritten += self._writer.add(data)
        if force or self._monotonic_s() - self._synced_at_s >= SYNC_INTERVAL_S:
            self.sync()
        else:
            self._write()

    def sync(self) -> None:
        """Put everything taken so far on the disk: a crash after this call costs none of it."""
        self._check_open()
        self._unwritten += self._writer.flush()
        self._write()
        try:
            self._file.sync()
            if not self._is_named:
                # Before the first of these a crash may leave no file at all: nothing is promised.
                self._spool.files.sync_directory(self.path.parent)
                self._is_named = True
        except CorruptionError:
            self.close()
            raise
        self._synced_at_s = self._monotonic_s()

    def finish(self) -> FinishedRecording:
        """End the recording; durable on return. The file stays until `discard`.

        It is still this recording's alone, until `close`, `discard` or `set_aside`.
        """
        self._check_open()
        self._unwritten += self._writer.finish()
        self.sync()
        self._close_file()
        writer = self._writer
        return FinishedRecording(
            path=self.path,
            blob_digest=writer.stored_digest,
            blob_size_bytes=writer.stored_size_bytes,
            received_digest=writer.received_digest,
            received_bytes_count=writer.received_size_bytes,
            files=self._spool.files,
            key=self._key,
        )

    def set_aside(self, reason: str) -> Path:
        """Keep what was received for a person to look at, finished or not; give where it is."""
        if not self._is_closed:
            try:
                self.sync()
            except LedgerError:
                pass  # What could not be written cannot be kept; the rest is moved below.
            finally:
                self._close_file()
        try:
            return self._spool.set_aside(self.path, reason)
        finally:
            self.close()

    def discard(self) -> None:
        """Drop the recording: it is kept as a blob that events name, or nobody wants it."""
        self._close_file()
        self._spool.discard(self.path)
        self.close()

    def close(self) -> None:
        """Let go of the file, finished or not; it stays in the spool. Again is fine."""
        self._close_file()
        self._spool.release(self.path)

    def _close_file(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._file.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ConflictError(f"recording {self.path.name} has ended and takes no more audio")

    def _write(self) -> None:
        """Write all frames that wait. The file never keeps a part of a frame behind an error."""
        if not self._unwritten:
            return
        try:
            # A crash in here may leave a torn frame at the end: recovery cuts it off.
            self._file.write(self._unwritten)
        except CorruptionError:
            self.close()
            raise
        self._unwritten = b""


def _create(files: Files, path: Path) -> OpenFile:
    try:
        return files.create(path)
    except FileExistsError as error:
        raise ConflictError(
            f"call {path.name.removesuffix(_SUFFIX)} already has a recording in the spool"
        ) from error
