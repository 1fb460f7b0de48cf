"""What a server gives of whole logs: its own to its mirrors, a copy back to the log's server.

A mirror asks again and again, and each time says how far it durably holds the log, events and
blobs: that is its acknowledgement. Whoever else asks is told nothing of this server's log. A server
that asks for its own log gets what is kept of it here, whatever happened to it.

A blob is also given to a server that asks for its own log's and knows the address: that is a digest
which only the events that name it tell.

Source: claims 7 and 8.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

import msgspec

from ledger.checkpoint import read_log_name
from ledger.clock import Clock
from ledger.configuration import Directory
from ledger.errors import CallerError, PeerError
from ledger.events import ServerId
from ledger.identity import ServerIdentity
from ledger.migration.log_reading import (
    kept_word,
    own_word,
    read_blobs,
    read_kept_state,
    read_page,
    read_state,
)
from ledger.migration.wire import (
    Blobs,
    BlobsRequest,
    LogPage,
    LogPageRequest,
    LogState,
    LogStateRequest,
    TrackedRow,
)
from ledger.offload import Offload
from ledger.storage.blob_store import BlobStore
from ledger.storage.cosigned_checkpoints import CosignedCheckpoints
from ledger.storage.event_log import LogRecorder
from ledger.storage.log_copy import CURRENT_COPY, Copies, KeptCopy

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a mirror said last that it durably holds of this server's log."""

    incarnation: UUID | None
    position: int
    at: datetime


class LogSharing:
    """Answers those who copy logs. For one event loop."""

    def __init__(
        self,
        *,
        identity: ServerIdentity,
        directory: Directory,
        recorder: LogRecorder,
        blobs: BlobStore,
        cosigned: CosignedCheckpoints,
        shelf: Copies,
        clock: Clock,
        offload: Offload,
    ) -> None:
        self._identity = identity
        self._directory = directory
        self._recorder = recorder
        self._blobs = blobs
        self._cosigned = cosigned
        self._shelf = shelf
        self._clock = clock
        self._offload = offload
        self._acknowledged: dict[ServerId, Acknowledged] = {}

    @property
    def acknowledged(self) -> Mapping[ServerId, Acknowledged]:
        """What each mirror said last, since this server started."""
        return self._acknowledged

    async def state(
        self, sender: ServerId, request: LogStateRequest, tracked: Sequence[TrackedRow]
    ) -> LogState:
        """Say how far a log is known here; ``tracked`` is what is tracked of the sender's."""
        if self._is_own(sender, request.of):
            self._acknowledged[sender] = Acknowledged(
                request.held_incarnation, request.held_position, self._clock.now()
            )
            vouch = own_word(self._identity)
            own = await self._offload(lambda: read_state(self._recorder, "", vouch))
            return LogState(copies=(own,))
        return await self._offload(partial(self._known_of, sender, tuple(tracked)))

    async def page(self, sender: ServerId, request: LogPageRequest) -> LogPage:
        """Give the next events of this log to a mirror, or of a copy to its server."""
        if self._is_own(sender, request.of):
            recorder, vouch, cosigned = (
                self._recorder,
                own_word(self._identity),
                self._cosigned,
            )
        else:
            copy = await self._offload(partial(self._copy, sender, request.copy))
            recorder, vouch, cosigned = copy.recorder, kept_word(copy.checkpoint), copy.cosigned
        return await self._offload(
            lambda: read_page(
                recorder, request, vouch, origins=self._directory.servers, cosigned=cosigned
            )
        )

    async def blobs(self, sender: ServerId, request: BlobsRequest) -> Blobs:
        """Give blobs, many in one answer."""
        places: list[tuple[LogRecorder, BlobStore]] = []
        if not self._is_own(sender, request.of):
            copies = await self._offload(lambda: self._shelf.copies(sender))
            places += [(copy.recorder, copy.blobs) for copy in copies]
        places.append((self._recorder, self._blobs))
        return await self._offload(
            lambda: read_blobs(request.digests, places, is_verified=request.is_verified)
        )

    def _is_own(self, sender: ServerId, of: ServerId) -> bool:
        """Is this server's log asked for? Raises PeerError for who may not have what he wants."""
        here = self._directory.this_server
        if of == sender:
            return False
        if of != here:
            raise PeerError(f"the log of {of} is given to {of} alone", peer=sender)
        if sender not in self._directory.own.mirrors:
            raise PeerError(
                f"server {sender} is no mirror of {here}: the configuration of {here} does not "
                f"name it in the mirrors of {here}",
                peer=sender,
            )
        return True

    def _copy(self, of: ServerId, name: str) -> KeptCopy:
        for copy in self._shelf.copies(of):
            if copy.name == name:
                return copy
        raise PeerError(f"there is no copy {name!r} of the log of {of} here", peer=of)

    def _known_of(self, of: ServerId, tracked: tuple[TrackedRow, ...]) -> LogState:
        here = self._directory.this_server
        return LogState(
            copies=tuple(
                msgspec.structs.replace(
                    read_kept_state(of, copy.recorder, copy.name, copy.checkpoint),
                    is_aside=copy.name != CURRENT_COPY,
                )
                for copy in self._shelf.copies(of)
            ),
            witnessed=tuple(
                row.note
                for row in self._cosigned.all()
                if row.witness == here and _is_log_of(of, row.log)
            ),
            tracked=tracked,
        )


def _is_log_of(server: ServerId, log: str) -> bool:
    try:
        return read_log_name(log)[0] == server
    except CallerError:
        return False
