"""The keys of calls on their way between servers: beside the events that they open, never in them.

Whoever is sent the beginning of a call is sent its key in the same message, sealed so that only
that server opens it, and wraps it with its own master key before it commits it with the events. A
mirror gets the keys as they are kept, and cannot open them.

Source: claims 4, 7 and 8.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final
from uuid import UUID

from ledger.configuration import ServerEntry
from ledger.errors import LedgerError, PeerError
from ledger.events import CallErased, CallReceived, ServerId, decode
from ledger.identity import ServerIdentity
from ledger.ids import RandomBytes
from ledger.key_transport import open_keys, seal_keys, way_of
from ledger.offload import Offload
from ledger.sealing import MessageKey, WrappedKey
from ledger.storage.event_log import LogEntry
from ledger.storage.vault import FoundKey, Vault

_LOG: Final = logging.getLogger(__name__)

CALL_ERASED: Final = str(CallErased.__struct_config__.tag)
"""Topic of the event with which a call's key is destroyed."""
CALL_RECEIVED: Final = str(CallReceived.__struct_config__.tag)
"""Topic of the event with which a call, and its key, begins."""


def is_sealed_call(entry: LogEntry) -> bool:
    """Is this the beginning of a call that nobody understands without its key?"""
    event = decode(entry.plain, f"position {entry.position}")
    return isinstance(event, CallReceived) and isinstance(event.personal, str)


async def find_keys(
    vault: Vault, offload: Offload, calls: Collection[UUID]
) -> Mapping[UUID, FoundKey]:
    """Give what is here of the keys of these calls."""
    return await offload(lambda: vault.find(calls)) if calls else {}


def seal_found(
    found: Mapping[UUID, FoundKey],
    sender: ServerId,
    receiver: ServerEntry,
    random_bytes: RandomBytes,
) -> bytes:
    """Seal those of the keys that are here for a server.

    Whether the others matter is for the receiver to say: it may have them.
    """
    for call_id, key in found.items():
        if isinstance(key, LedgerError):
            _LOG.error("action=key-not-sent call=%s error=%s", call_id, key)
    keys = (key for key in found.values() if isinstance(key, MessageKey))
    return seal_keys(keys, receiver.public_key, way_of(sender, receiver.id), random_bytes)


def open_sent(
    sealed: bytes, sender: ServerId, receiver: ServerIdentity
) -> Mapping[UUID, MessageKey]:
    """Open the keys that a server sent to this one; raises PeerError for others."""
    try:
        keys = open_keys(sealed, receiver.private_key, way_of(sender, receiver.server_id))
    except ValueError as error:
        raise PeerError(
            f"the keys that server {sender} sent cannot be opened: {error}; compare the public key "
            f"of {receiver.server_id} in its configuration",
            peer=sender,
        ) from error
    return {key.key_id: key for key in keys}


def destroyed_by(events: Iterable[tuple[str, bytes]]) -> list[WrappedKey]:
    """Give the keys that are destroyed with the commit of these events (topic and JSON)."""
    told = (decode(plain) for topic, plain in events if topic == CALL_ERASED)
    return [WrappedKey(e.call_id, None) for e in told if isinstance(e, CallErased)]


def keys_to_keep(
    vault: Vault, sent: Iterable[MessageKey], calls: Collection[UUID]
) -> list[WrappedKey]:
    """Wrap those that belong to these calls, to be committed with their events."""
    return [vault.wrap(key) for key in sent if key.key_id in calls]
