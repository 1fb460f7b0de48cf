"""What the API is given: the server's use cases, its log, the read models and the tokens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from ledger.clock import Clock
from ledger.configuration import Configuration
from ledger.offload import Offload
from ledger.server import VoicemailServer
from ledger.storage.group_commit import EventLog
from vmledger.http.measures import Measures
from vmledger.http.questions import Questions
from vmledger.http.upload import UploadGate
from vmledger.tokens import TokenStore

SETTLE_S: Final = 2.0
"""How long an answer waits at most for the read models to show what it changed."""


@dataclass(frozen=True, slots=True)
class ApiParts:
    """The ports of the HTTP API."""

    config: Configuration
    server: VoicemailServer
    log: EventLog
    questions: Questions
    tokens: TokenStore
    clock: Clock
    offload: Offload
    """For work that takes as long as it takes: blocking stores, rendering."""
    measures: Measures
    uploads: UploadGate

    async def settle(self) -> None:
        """Wait, for a bounded time, until the read models show all that is recorded by now.

        So a client that reads after its own write sees it. When they are too slow the write
        stands all the same, and the answer's ``as_of`` says what it rests on.
        """
        head = await self.log.head()
        await asyncio.to_thread(self.questions.wait_for, head.position, SETTLE_S)
