"""Verify the co-signed checkpoints that a server keeps: others' words on its log, its on theirs.

Each is held against the keys of the two who signed it, and those of this log become roots that the
log is held against: whoever rewrites it would have to forge them.

Source: C2SP tlog-checkpoint, tlog-cosignature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ledger.checkpoint import (
    Checkpoint,
    cosigned_at,
    log_key,
    parse_checkpoint,
    read_log_name,
    witness_key,
    witness_name,
)
from ledger.errors import CallerError
from ledger.events import ServerId
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint


@dataclass(frozen=True, slots=True)
class StatedRoot:
    """A root of this log that a witness put its name under."""

    place: str
    witness: ServerId
    checkpoint: Checkpoint
    at: datetime
    """When it was co-signed."""


@dataclass(slots=True)
class CheckedCheckpoints:
    """What was found out about all of them."""

    stated: list[StatedRoot] = field(default_factory=list)
    """Of the log that is verified, under any of its incarnations."""
    signatures: int = 0
    """Co-signed checkpoints that are signed rightly by both."""
    unchecked: int = 0
    """Of servers whose key is not known."""
    findings: list[tuple[str, str]] = field(default_factory=list)
    """Place, and what is wrong there."""


def check_checkpoints(
    rows: Iterable[CosignedCheckpoint], server: ServerId, keys: Mapping[ServerId, bytes]
) -> CheckedCheckpoints:
    """Check all co-signed checkpoints that are kept by ``server``."""
    checked = CheckedCheckpoints()
    for row in rows:
        place = f"checkpoint of {row.log!r} at {row.size}, co-signed by {row.witness!r}"
        try:
            note, checkpoint = parse_checkpoint(row.note)
            owner, incarnation = read_log_name(checkpoint.log)
        except CallerError as error:
            checked.findings.append((place, error.message))
            continue
        if (checkpoint.log, checkpoint.size) != (row.log, row.size):
            checked.findings.append((place, "is kept in the place of another one"))
        elif owner == row.witness or server not in (owner, row.witness):
            checked.findings.append((place, "is no word of another server on this log, or back"))
        elif all(line.name != witness_name(row.witness) for line in note.signatures):
            checked.findings.append((place, f"bears no signature of server {row.witness}"))
        elif owner not in keys or row.witness not in keys:
            checked.unchecked += 1
        elif not note.is_signed_by(log_key(owner, incarnation, keys[owner])):
            checked.findings.append((place, f"is not signed by server {owner}, whose log it is"))
        elif (at := cosigned_at(note, witness_key(row.witness, keys[row.witness]))) is None:
            checked.findings.append((place, f"is not co-signed by server {row.witness}"))
        else:
            checked.signatures += 1
            if owner == server:
                checked.stated.append(StatedRoot(place, row.witness, checkpoint, at))
    return checked
