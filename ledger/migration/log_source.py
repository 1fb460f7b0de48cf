"""Who gives a log to be copied, and where it is copied to.

Source: claims 5, 7 and 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger.errors import ConflictError, PeerError
from ledger.events import DomainEvent, OpaqueEvent, ServerId
from ledger.identity import Verifier, verify_signature
from ledger.migration.link import PeerClient
from ledger.migration.wire import (
    Blobs,
    CopyState,
    KeptKey,
    LogPage,
    LogPageRequest,
    LogState,
    LogStateRequest,
)
from ledger.offload import Offload
from ledger.storage.blob_store import BlobStore
from ledger.storage.cosigned_checkpoints import CosignedCheckpoints
from ledger.storage.event_log import LogRecorder
from ledger.storage.log_copy import CheckpointFile

Progress = Callable[[int, int, int], None]
"""Called with the position that is reached, the one to reach, and the blobs copied so far."""


def no_progress(_position: int, _through: int, _blobs: int) -> None:
    """Show nothing."""


OnPage = Callable[[Sequence[DomainEvent | OpaqueEvent], int, Sequence[KeptKey]], None]
"""Called with the next events, the position of the first one, and the keys that came with them; in
a thread."""


def ignore_page(
    _events: Sequence[DomainEvent | OpaqueEvent], _first: int, _keys: Sequence[KeptKey]
) -> None:
    """Do nothing with them."""


class LogSource(Protocol):
    """Who has a log, or a copy of one. Errors are those of `PeerClient`."""

    name: str
    """For people."""

    async def log_state(self, request: LogStateRequest) -> LogState:
        """Say how far the log is known there."""

    async def log_page(self, request: LogPageRequest) -> LogPage:
        """Give the next events."""

    async def blobs(self, of: ServerId, digests: Sequence[str]) -> Blobs:
        """Give blobs, each of which is what its digest says: nobody looks again."""


class PeerSource:
    """A `LogSource` that is another server."""

    def __init__(self, client: PeerClient, offload: Offload) -> None:
        self.name = client.peer
        self._client = client
        self._offload = offload

    async def log_state(self, request: LogStateRequest) -> LogState:
        return await self._client.log_state(request)

    async def log_page(self, request: LogPageRequest) -> LogPage:
        return await self._client.log_page(request, self._offload)

    async def blobs(self, of: ServerId, digests: Sequence[str]) -> Blobs:
        return await self._client.blobs(of, digests, self._offload)


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where a log is copied to. Nobody else writes there."""

    of: ServerId
    """Whose log."""
    public_key: bytes
    """By which its server signs."""
    recorder: LogRecorder
    blobs: BlobStore
    cosigned: CosignedCheckpoints
    checkpoint: CheckpointFile
    verify: Verifier = verify_signature


class OtherHistoryError(ConflictError):
    """What is held is not the beginning of the log that is offered."""


def other_history(target: LogTarget, position: int, copy: CopyState) -> OtherHistoryError:
    """Make the error for a target that holds so much of something else."""
    return OtherHistoryError(
        f"the {position} events that are held of {target.of}'s log are not the beginning of the "
        f"{copy.position} events that it has under incarnation {copy.incarnation}"
    )


def broken_log(source: str, of: ServerId, what: str) -> PeerError:
    """Make the error for a source whose log is not what it says."""
    return PeerError(f"the log of {of} at {source} is not what it says: {what}", peer=source)
