"""What the use cases of one server are given: its ports and its configuration.

Chosen and joined in one place, the composition root; a simulation joins others.

Source: claim 14.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ledger.clock import Clock
from ledger.configuration import Configuration, Homes
from ledger.events import ReachabilityEvidence, ServerId
from ledger.ids import IdFactory, RandomBytes
from ledger.offload import Offload
from ledger.pin import USUAL_COST, ScryptCost
from ledger.storage.blob_store import BlobStore
from ledger.storage.group_commit import EventLog
from ledger.storage.mailbox_states import MailboxStates
from ledger.storage.server_stream import ServerStream
from ledger.storage.spool import Spool
from ledger.storage.vault import Vault


class ReachabilityJudge(Protocol):
    """Knows which servers are available."""

    async def judge(self, peer: ServerId, deadline_s: float) -> ReachabilityEvidence:
        """Judge a peer now, probing it if what is known is not fresh; never later than that."""


class Deliveries(Protocol):
    """Ships messages to their homes."""

    async def deliver_now(self, message_id: UUID, home: ServerId, deadline_s: float) -> bool:
        """Wake the shipping to this home; True when its receipt for the message is recorded here.

        False after the deadline: the message stays here and is shipped later, by itself.
        """

    async def requeue(self, call_id: UUID, message_id: UUID) -> None:
        """Ship a held or refused message again, to the home that the configuration names now."""


@dataclass(frozen=True, slots=True)
class ServerParts:
    """The ports of one server."""

    config: Configuration
    homes: Homes
    """Where mailboxes live: ask this, not the configuration."""
    log: EventLog
    mailboxes: MailboxStates
    blobs: BlobStore
    spool: Spool
    vault: Vault
    """The keys of sealed messages."""
    clock: Clock
    offload: Offload
    blob_offload: Offload
    """For what waits for the blob store: an object store may be away for minutes, and calls are
    taken meanwhile."""
    new_id: IdFactory
    random_bytes: RandomBytes
    server_stream: ServerStream
    reachability: ReachabilityJudge
    deliveries: Deliveries
    pin_cost: ScryptCost = USUAL_COST
    """How much work one check of a PIN is, for PINs that are set from now on."""
