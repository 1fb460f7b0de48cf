"""What a crash left in the spool, made whole again.

A spool file is whole frames and perhaps a torn one at its end. The whole ones become the recording,
the rest is kept beside it for a person: of a sealed recording the left-over as it was, because a
tail alone could not be opened. The original is replaced only when its successor is on the
disk, and never written to: a blob may share its bytes.

Source: claims 3 and 10.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias
from uuid import UUID

from ledger.errors import CorruptionError
from ledger.ids import RandomBytes
from ledger.sealing import MessageKey
from ledger.storage.files import Files, write_durably
from ledger.storage.sealed_form import is_sealed, read_key_id
from ledger.storage.sealed_recording import FindKey, mend_sealed
from ledger.storage.stored_form import RecordingMetadata, intact_prefix, read_metadata

KeepTorn: TypeAlias = Callable[[Path, bytes], Path]


@dataclass(frozen=True, slots=True)
class InterruptedRecording:
    """A recording that an earlier run of the server did not see through."""

    path: Path
    """The spool file, now whole; `Spool.discard` or `Spool.set_aside` it at the end."""
    call_id: UUID | None
    """None when the file is not named like a recording of ours."""
    metadata: RecordingMetadata | None
    """None when the crash came before even that was written: then nothing was received."""
    received: bytes
    received_digest: str
    blob_digest: str
    blob_size_bytes: int
    cut_bytes: int
    """Length of what was set apart; 0 when nothing was torn (a finished recording, for one)."""
    tail: Path | None
    """Where that is kept: a torn tail or, of a sealed recording, the whole left-over."""
    key: MessageKey | None
    """What it is sealed with; None: it is not."""

    @property
    def received_bytes_count(self) -> int:
        """Number of received bytes."""
        return len(self.received)


class _Whole(NamedTuple):
    """A left-over made whole."""

    file: bytes
    """What the spool file has to hold."""
    torn: bytes
    """What is kept beside it."""
    stored: bytes
    """Its frames, readable."""
    received: bytes
    key: MessageKey | None


def mend(
    files: Files, path: Path, keep_torn: KeepTorn, find_key: FindKey, random_bytes: RandomBytes
) -> InterruptedRecording:
    """Cut a left-over after its last whole frame, durably, and say what it holds.

    ``keep_torn`` keeps what is cut off the file at a path, durably, and gives where that is.
    Raises what ``find_key`` raises for one that is sealed; then nothing was changed.
    """
    data = files.read(path)
    whole = _sealed(data, find_key, random_bytes) if is_sealed(data) else _unsealed(data)
    # A crash after this leaves the tail twice: here again, and in set-aside.
    tail = keep_torn(path, whole.torn) if whole.torn else None
    if whole.file != data:
        write_durably(files, path, whole.file)
    return InterruptedRecording(
        path=path,
        call_id=_call_id(path),
        metadata=_metadata(whole.stored),
        received=whole.received,
        received_digest=hashlib.sha256(whole.received).hexdigest(),
        blob_digest=hashlib.sha256(whole.file).hexdigest(),
        blob_size_bytes=len(whole.file),
        cut_bytes=len(whole.torn),
        tail=tail,
        key=whole.key,
    )


def _unsealed(data: bytes) -> _Whole:
    received, length_bytes = intact_prefix(data)
    whole = data[:length_bytes]
    return _Whole(whole, data[length_bytes:], whole, received, None)


def _sealed(data: bytes, find_key: FindKey, random_bytes: RandomBytes) -> _Whole:
    key = find_key(read_key_id(data))
    mended = mend_sealed(data, key, random_bytes)
    torn = data if mended.is_cut else b""
    return _Whole(mended.sealed, torn, mended.stored, mended.received, key)


def _call_id(path: Path) -> UUID | None:
    try:
        return UUID(path.name.partition(".")[0])
    except ValueError:
        return None


def _metadata(whole: bytes) -> RecordingMetadata | None:
    try:
        return read_metadata(whole)
    except CorruptionError:
        return None
