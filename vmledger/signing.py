"""A log's head as the signed checkpoint of its server."""

from __future__ import annotations

from ledger.checkpoint import Checkpoint, log_name, sign_checkpoint
from ledger.identity import ServerIdentity
from ledger.signed_note import SignedNote
from ledger.storage.event_log import LogHead


def sign_head(head: LogHead, identity: ServerIdentity) -> SignedNote:
    """Sign where a log ends now."""
    log = log_name(identity.server_id, head.incarnation)
    return sign_checkpoint(Checkpoint(log, head.position, head.root), identity)
