"""Everything between this server and the others, joined: links, shipping, taking in.

Source: claims 4, 5, 7 and 8.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Mapping
from typing import Any, Final

from ledger.clock import Clock
from ledger.configuration import Configuration, Homes
from ledger.errors import LedgerError
from ledger.events import (
    AttemptsFailed,
    Event,
    PeerLost,
    PeerReturned,
    PeerState,
    ReachabilityEvidence,
    ServerId,
)
from ledger.identity import ServerIdentity
from ledger.ids import IdFactory
from ledger.migration.attempts import AttemptCount, FailedAttempts
from ledger.migration.cosigning import Cosigning
from ledger.migration.deliveries import Deliveries
from ledger.migration.home import Receiver
from ledger.migration.incarnations import Incarnations
from ledger.migration.link import PeerLink
from ledger.migration.log_sharing import LogSharing
from ledger.migration.mirroring import Mirroring, Needed
from ledger.migration.origin import OriginParts
from ledger.migration.reachability import Observers, Reachability
from ledger.migration.settlement import Settlement
from ledger.migration.stories import FindCall, knows_no_call
from ledger.migration.witness import Witness
from ledger.offload import Offload
from ledger.storage.blob_store import BlobStore
from ledger.storage.cosigned_checkpoints import CosignedCheckpoints
from ledger.storage.group_commit import EventLog
from ledger.storage.log_copy import Copies
from ledger.storage.peer_cursors import CursorStore
from ledger.storage.server_stream import ServerStream
from ledger.storage.vault import Vault

_LOG: Final = logging.getLogger(__name__)


class Replication:
    """The voicemail migration module of one server, at work. For one event loop."""

    def __init__(
        self,
        config: Configuration,
        homes: Homes,
        *,
        identity: ServerIdentity,
        links: Mapping[ServerId, PeerLink],
        log: EventLog,
        blobs: BlobStore,
        vault: Vault,
        cursors: CursorStore,
        checkpoints: CosignedCheckpoints,
        server_stream: ServerStream,
        clock: Clock,
        offload: Offload,
        new_id: IdFactory,
        rng: random.Random,
        find_call: FindCall = knows_no_call,
        shelf: Copies | None = None,
        needed: Needed | None = None,
    ) -> None:
        """Join the parts. Without ``shelf`` nobody gets a whole log from here.

        ``needed`` reads from a copied log which blobs its server must have; without it this server
        is nobody's mirror.
        """
        self.links = links
        """The ways to the other servers, by their ids."""
        self._server_stream = server_stream
        self._changes: asyncio.Queue[ReachabilityEvidence | FailedAttempts] = asyncio.Queue()
        self._recording: asyncio.Task[None] | None = None
        self.reachability = Reachability(
            links, config.replication, clock, on_change=self._changes.put_nowait
        )
        incarnations = Incarnations(config.server, log, clock, new_id)
        self.cosigning = Cosigning(
            links,
            identity=identity,
            directory=config.directory,
            log=log,
            store=checkpoints,
            incarnations=incarnations,
            clock=clock,
            offload=offload,
        )
        self.deliveries = Deliveries(
            OriginParts(
                identity=identity,
                homes=homes,
                log=log,
                blobs=blobs,
                vault=vault,
                clock=clock,
                offload=offload,
                rng=rng,
                settings=config.replication,
                incarnations=incarnations,
                settlement=Settlement(log, clock, homes),
                cursors=cursors,
                observer=AttemptCount(
                    Observers((self.reachability, self.cosigning)),
                    clock,
                    self._changes.put_nowait,
                ),
            ),
            links,
        )
        self.sharing: LogSharing | None = None
        self.mirroring: Mirroring | None = None
        if shelf is not None:
            self.sharing = LogSharing(
                identity=identity,
                directory=config.directory,
                recorder=log.recorder,
                blobs=blobs,
                cosigned=checkpoints,
                shelf=shelf,
                clock=clock,
                offload=offload,
            )
        if shelf is not None and needed is not None:
            self.mirroring = Mirroring(
                links,
                directory=config.directory,
                shelf=shelf,
                needed=needed,
                clock=clock,
                offload=offload,
            )
        self.receiver = Receiver(
            identity=identity,
            homes=homes,
            log=log,
            blobs=blobs,
            vault=vault,
            clock=clock,
            offload=offload,
            rng=rng,
            limits=config.limits,
            witness=Witness(
                identity=identity,
                directory=config.directory,
                store=checkpoints,
                server_stream=server_stream,
                clock=clock,
                offload=offload,
            ),
            on_inbound=self.deliveries.inbound,
            find_call=find_call,
            sharing=self.sharing,
        )

    async def start(self) -> None:
        """Begin to ship, and to record who comes and goes."""
        self._recording = asyncio.create_task(self._record_changes(), name="record-peer-changes")
        await self.cosigning.start()
        await self.deliveries.start()
        if self.mirroring is not None:
            await self.mirroring.start()

    async def stop(self) -> None:
        """End all work; what is in flight arrives, or is sent again after the next start."""
        if self.mirroring is not None:
            await self.mirroring.stop()
        await self.deliveries.stop()
        await self.cosigning.stop()
        await self.reachability.close()
        if self._recording is not None:
            self._recording.cancel()
            await asyncio.gather(self._recording, return_exceptions=True)

    async def _record_changes(self) -> None:
        """Record each peer that was lost or came back, and each run of failed attempts, in order.

        One that cannot be recorded is lost: it explains decisions, and no decision rests on it.
        """
        while True:
            kind, fields = _event_of(await self._changes.get())
            try:
                await self._server_stream.record(kind, **fields)
            except LedgerError as error:
                _LOG.warning("action=peer-change-not-recorded event=%s error=%s", fields, error)


def _event_of(change: ReachabilityEvidence | FailedAttempts) -> tuple[type[Event], dict[str, Any]]:
    if isinstance(change, FailedAttempts):
        return AttemptsFailed, dataclasses.asdict(change)
    kind = PeerLost if change.state is PeerState.DOWN else PeerReturned
    return kind, {"evidence": change}
