"""Checkpoints with a witness's signature, kept for ever or until newer ones stand in: a port.

One store keeps both sides: what other servers co-signed of this server's log, and what this server
co-signed of theirs. The second is what a witness is: it must never sign a checkpoint that does not
follow from the one it signed before, so that one is on the disk before the signature leaves.

Source: C2SP tlog-witness ("persisted before it is returned"), tlog-cosignature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from ledger.events import ServerId

KEPT: Final = 8
"""Checkpoints kept for each log and witness: the newest, and some to find common ones among."""


@dataclass(frozen=True, slots=True)
class CosignedCheckpoint:
    """A checkpoint with the signatures of its log and of one witness."""

    log: str
    """`ledger.checkpoint.log_name`."""
    witness: ServerId
    size: int
    """Number of events that it covers."""
    note: str
    """The signed note; what counts is in it, and the other fields only repeat it."""


class CosignedCheckpoints(Protocol):
    """Keeps the newest `KEPT` of each log and witness. Synchronous; for any thread.

    All methods raise TransientError when the store cannot work now.
    """

    def newest(self, log: str, witness: ServerId) -> CosignedCheckpoint | None:
        """Give the largest checkpoint of this log that this witness signed, or None."""

    def all(self) -> list[CosignedCheckpoint]:
        """Give every one that is kept, by log, witness and size."""

    def add(self, new: CosignedCheckpoint, after: int) -> bool:
        """Keep a checkpoint, if the newest of its log and witness has the size ``after`` (0: none).

        Durable on return. False, and nothing changed, when another one is the newest. The same size
        again takes the place of the one before; a smaller one is never kept.
        """


class MemoryCosignedCheckpoints:
    """A `CosignedCheckpoints` for tests and for the simulation."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, ServerId, int], CosignedCheckpoint] = {}

    def newest(self, log: str, witness: ServerId) -> CosignedCheckpoint | None:
        return max(self._of(log, witness), key=lambda row: row.size, default=None)

    def all(self) -> list[CosignedCheckpoint]:
        return [self.rows[key] for key in sorted(self.rows)]

    def add(self, new: CosignedCheckpoint, after: int) -> bool:
        newest = self.newest(new.log, new.witness)
        if (newest.size if newest is not None else 0) != after or new.size < after:
            return False
        self.rows[new.log, new.witness, new.size] = new
        for old in sorted(self._of(new.log, new.witness), key=lambda row: row.size)[:-KEPT]:
            del self.rows[old.log, old.witness, old.size]
        return True

    def _of(self, log: str, witness: ServerId) -> list[CosignedCheckpoint]:
        return [row for row in self.rows.values() if (row.log, row.witness) == (log, witness)]
