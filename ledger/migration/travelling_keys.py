"""The keys of calls on their way between servers: beside the events that they open, never in them.

Whoever is sent the beginning of a call is sent its key in the same message, inside the
authenticated connection, and wraps it with its own master key before it commits it with the
events. A mirror gets the keys as they are kept, and cannot open them.

Source: claims 4, 7 and 8.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final
from uuid import UUID

from ledger.errors import LedgerError
from ledger.events import CallErased, CallReceived, decode
from ledger.migration.wire import CallKey
from ledger.offload import Offload
from ledger.sealing import MessageKey, WrappedKey
from ledger.storage.event_log import LogEntry
from ledger.storage.vault import FoundKey, Vault

_LOG: Final = logging.getLogger(__name__)

_CALL_ERASED: Final = str(CallErased.__struct_config__.tag)
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


def sendable(found: Mapping[UUID, FoundKey]) -> tuple[CallKey, ...]:
    """Give those that can be sent of the keys that are here.

    Whether the others matter is for the receiver to say: it may have them.
    """
    for call_id, key in found.items():
        if isinstance(key, LedgerError):
            _LOG.error("action=key-not-sent call=%s error=%s", call_id, key)
    return tuple(CallKey(c, k.secret) for c, k in found.items() if isinstance(k, MessageKey))


def destroyed_by(events: Iterable[tuple[str, bytes]]) -> list[WrappedKey]:
    """Give the keys that are destroyed with the commit of these events (topic and JSON)."""
    told = (decode(plain) for topic, plain in events if topic == _CALL_ERASED)
    return [WrappedKey(e.call_id, None) for e in told if isinstance(e, CallErased)]


def keys_to_keep(
    vault: Vault, sent: Iterable[CallKey], calls: Collection[UUID]
) -> list[WrappedKey]:
    """Wrap those that belong to these calls, to be committed with their events."""
    return [vault.wrap(MessageKey(k.call_id, k.secret)) for k in sent if k.call_id in calls]
