"""What a crash left in the spool, made whole again.

A spool file is whole frames and perhaps a torn one at its end. The whole ones become the recording,
the rest is kept beside it for a person. The original is replaced only when its successor is on the
disk, and never written to: a blob may share its bytes.

Source: claims 3 and 10.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from ledger.errors import CorruptionError
from ledger.storage.files import Files, write_durably
from ledger.storage.stored_form import RecordingMetadata, intact_prefix, read_metadata


@dataclass(frozen=True, slots=True)
class InterruptedRecording:
    """A recording that an earlier run of the server did not see through."""

    path: Path
    """The spool file, now whole frames only; `Spool.discard` or `Spool.set_aside` it at the end."""
    call_id: UUID | None
    """None when the file is not named like a recording of ours."""
    metadata: RecordingMetadata | None
    """None when the crash came before even that was written: then nothing was received."""
    received: bytes
    received_digest: str
    blob_digest: str
    blob_size_bytes: int
    cut_bytes: int
    """Length of the torn tail; 0 when the file was whole (a finished recording, for one)."""
    tail: Path | None
    """Where the torn tail is kept."""

    @property
    def received_bytes_count(self) -> int:
        """Number of received bytes."""
        return len(self.received)


def mend(files: Files, path: Path, tail_path: Path) -> InterruptedRecording:
    """Cut a left-over after its last whole frame, durably, and say what it holds."""
    data = files.read(path)
    prefix = intact_prefix(data)
    whole, torn = data[: prefix.length_bytes], data[prefix.length_bytes :]
    if torn:
        # A crash between the two leaves the tail twice: here again, and in set-aside.
        write_durably(files, tail_path, torn)
        write_durably(files, path, whole)
    return InterruptedRecording(
        path=path,
        call_id=_call_id(path),
        metadata=_metadata(whole),
        received=prefix.received,
        received_digest=hashlib.sha256(prefix.received).hexdigest(),
        blob_digest=hashlib.sha256(whole).hexdigest(),
        blob_size_bytes=len(whole),
        cut_bytes=len(torn),
        tail=tail_path if torn else None,
    )


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
