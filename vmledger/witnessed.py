"""What others co-signed of this log: how far, and under which checkpoint the most of them stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ledger.checkpoint import (
    Checkpoint,
    cosigned_at,
    log_key,
    log_name,
    parse_checkpoint,
    with_cosignatures,
    witness_key,
)
from ledger.configuration import Configuration
from ledger.errors import CallerError
from ledger.events import ServerId
from ledger.identity import ServerIdentity
from ledger.signed_note import NoteSignature, SignedNote
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint, CosignedCheckpoints
from ledger.storage.event_log import LogHead, LogRecorder
from vmledger.signing import sign_head


class WitnessedUpTo(msgspec.Struct, frozen=True, kw_only=True):
    """How far another server has co-signed this log."""

    server: str
    position: int
    at: datetime


@dataclass(frozen=True, slots=True)
class _Cosigned:
    """A checkpoint that its log and one witness signed rightly."""

    witness: ServerId
    checkpoint: Checkpoint
    log_line: NoteSignature
    witness_line: NoteSignature
    at: datetime


class CosignedLog:
    """What known servers co-signed of a log as it is now.

    What is not signed rightly is left out here; `log verify` names it.
    """

    def __init__(
        self,
        head: LogHead,
        identity: ServerIdentity,
        keys: Mapping[ServerId, bytes],
        rows: Iterable[CosignedCheckpoint],
    ) -> None:
        """``keys`` are the public keys of servers; ``rows`` may hold those of other logs too."""
        self._head = head
        self._identity = identity
        self._log = log_name(identity.server_id, head.incarnation)
        self._rows = list(self._right_ones(keys, rows))

    def _right_ones(
        self, keys: Mapping[ServerId, bytes], rows: Iterable[CosignedCheckpoint]
    ) -> Iterator[_Cosigned]:
        server = self._identity.server_id
        own_key = log_key(server, self._head.incarnation, self._identity.public_key)
        for row in rows:
            if row.log != self._log or row.witness == server or row.witness not in keys:
                continue
            try:
                note, checkpoint = parse_checkpoint(row.note)
            except CallerError:
                continue
            key = witness_key(row.witness, keys[row.witness])
            at = cosigned_at(note, key)
            mine, its = note.of(own_key), note.of(key)
            if at is not None and note.is_signed_by(own_key) and mine and its:
                yield _Cosigned(row.witness, checkpoint, mine, its, at)

    @property
    def head(self) -> SignedNote:
        """The signed head of the log, with the signatures of those who co-signed just that."""
        note = sign_head(self._head, self._identity)
        lines = [row.witness_line for row in self._rows if row.checkpoint.to_text() == note.text]
        return with_cosignatures(note, lines)

    def best(self, least_size: int = 1) -> SignedNote | None:
        """Give the checkpoint that the most servers co-signed, of these the newest.

        It covers ``least_size`` events at least; None when nobody co-signed such a one.
        """
        together: dict[Checkpoint, list[_Cosigned]] = {}
        for row in self._rows:
            if least_size <= row.checkpoint.size <= self._head.position:
                together.setdefault(row.checkpoint, []).append(row)
        if not together:
            return None
        chosen, rows = max(together.items(), key=lambda item: (len(item[1]), item[0].size))
        note = SignedNote(chosen.to_text(), (rows[0].log_line,))
        return with_cosignatures(note, [row.witness_line for row in rows])

    def how_far(self) -> Sequence[WitnessedUpTo]:
        """Say up to where each server co-signed, by server."""
        newest: dict[ServerId, _Cosigned] = {}
        for row in sorted(self._rows, key=lambda row: row.checkpoint.size):
            newest[row.witness] = row
        return [
            WitnessedUpTo(server=server, position=row.checkpoint.size, at=row.at)
            for server, row in sorted(newest.items())
        ]


def server_keys(config: Configuration) -> dict[ServerId, bytes]:
    """Give the public keys of all servers of a configuration."""
    return {server.id: server.public_key for server in config.directory.servers.values()}


def read_cosigned(
    config: Configuration,
    identity: ServerIdentity,
    recorder: LogRecorder,
    store: CosignedCheckpoints,
) -> CosignedLog:
    """Read what known servers co-signed of a server's own log as it is now."""
    rows = store.all()
    return CosignedLog(recorder.head(), identity, server_keys(config), rows)
