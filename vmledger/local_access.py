"""Record what a command gives that opens the stores itself, beside the server.

Source: claim 10.
"""

from __future__ import annotations

import os
from uuid import UUID

from ledger.clock import SystemClock
from ledger.events import AccessKind, ServerId
from ledger.ids import access_stream_id, new_id_factory
from ledger.server.accesses import Access, access_event
from ledger.storage.event_log import Append, LogRecorder
from ledger.storage.mapper import to_stored_event
from vmledger.local_user import local_user

COMMAND_LINE = "command-line"


def record_local_access(
    recorder: LogRecorder,
    server: ServerId,
    kind: AccessKind,
    what: str,
    *,
    mailbox: str | None = None,
    message_id: UUID | None = None,
) -> None:
    """Record that something is about to be given here; durable on return.

    Raises what a commit raises: then it must not be given.
    """
    clock = SystemClock()
    access = Access(
        kind, what, COMMAND_LINE, user=local_user(), mailbox=mailbox, message_id=message_id
    )
    stream = access_stream_id(server, new_id_factory(clock.now, os.urandom)())
    event = access_event(access, server, clock, stream, 1)
    (done,) = recorder.commit([Append([to_stored_event(event)])])
    if isinstance(done, Exception):
        raise done
