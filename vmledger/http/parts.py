"""What the API is given: the server's use cases, its log, the read models and the tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ledger.clock import Clock
from ledger.configuration import Configuration, Homes
from ledger.events import ServerId
from ledger.identity import ServerIdentity
from ledger.migration.log_sharing import Acknowledged
from ledger.migration.origin import PeerStatus
from ledger.offload import Offload
from ledger.server import VoicemailServer
from ledger.storage.cosigned_checkpoints import CosignedCheckpoints
from ledger.storage.disk_room import DiskRoom
from ledger.storage.group_commit import EventLog
from ledger.storage.log_reserve import LogReserve
from vmledger.connections import Doorkeeper
from vmledger.http.measures import Measures
from vmledger.http.questions import Questions
from vmledger.http.upload import UploadGate
from vmledger.tokens import TokenStore
from vmledger.watch import Watch
from vmledger.whole_story import StoryCollector
from vmledger.witnessed import CosignedLog, read_cosigned

Answer = TypeVar("Answer")

SETTLE_S: Final = 2.0
"""How long an answer waits at most for the read models to show what is recorded."""


@dataclass(frozen=True, slots=True)
class ApiParts:
    """The ports of the HTTP API."""

    config: Configuration
    homes: Homes
    identity: ServerIdentity
    server: VoicemailServer
    log: EventLog
    questions: Questions
    stories: StoryCollector
    tokens: TokenStore
    clock: Clock
    offload: Offload
    """For work that takes as long as it takes: blocking stores, rendering."""
    measures: Measures
    uploads: UploadGate
    room: DiskRoom
    watch: Watch
    doors: Mapping[str, Doorkeeper]
    """Who keeps the listeners, by name."""
    checkpoints: CosignedCheckpoints
    """What others co-signed of this log."""
    peer_statuses: Callable[[], Sequence[PeerStatus]]
    """How the shipping to each peer is going."""
    mirrors: Callable[[], Mapping[ServerId, Acknowledged]]
    """What each mirror said last that it holds of this log."""
    reserve: LogReserve | None = None

    def cosigned_log(self) -> CosignedLog:
        """Read what known servers co-signed of the log as it is now. Blocks."""
        return read_cosigned(self.config, self.identity, self.log.recorder, self.checkpoints)

    async def ask(self, question: Callable[[], Answer]) -> Answer:
        """Ask the read models once they show all that is recorded by now.

        So whoever reads after a write, their own or another's, sees it, and no write waits for its
        readers. When the read models are too slow the answer comes all the same, and its ``as_of``
        says what it rests on.
        """

        def ask() -> Answer:
            self.questions.wait_for(self.log.recorder.head().position, SETTLE_S)
            return question()

        return await asyncio.to_thread(ask)
