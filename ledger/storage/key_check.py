"""Check the kept keys of messages: each opens with the master key, and is the key of its call.

A wrapped key is authenticated and bound to its call, so no other row and no sum is needed. A row
that is empty is the note of a key that was destroyed, and is no damage. Beside a running server.

Source: claim 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from ledger.errors import CallerError, CorruptionError
from ledger.sealing import MasterKey, WrappedKey
from ledger.storage.raw_rows import raw, raw_snapshot
from ledger.storage.row_check import Fault
from ledger.storage.schema import MESSAGE_KEY

_PAGE: Final = 2000


def check_keys(url: str, master: MasterKey) -> list[Fault]:
    """Open every key in a database; gives those that are not as they were written.

    Raises nothing for a damaged database: what cannot be read is a fault too.
    """
    faults: list[Fault] = []
    try:
        with raw_snapshot(url) as connection:
            faults += _unopened(connection, master)
    except (sa.exc.SQLAlchemyError, ValueError, TypeError) as error:
        faults.append(("keys of calls", f"cannot be read: {getattr(error, 'orig', None) or error}"))
    return faults


def _unopened(connection: sa.Connection, master: MasterKey) -> Iterator[Fault]:
    for call_id, wrapped in connection.execution_options(yield_per=_PAGE).execute(raw(MESSAGE_KEY)):
        try:
            key_id = call_id if isinstance(call_id, UUID) else UUID(bytes=call_id)
        except (TypeError, ValueError):
            yield f"key of call {call_id!r}", "is of no call: that is no identifier"
            continue
        if wrapped is None:
            continue
        if not isinstance(wrapped, bytes):
            yield f"key of call {key_id}", "is no key, but a value of another kind"
            continue
        try:
            master.unwrap(WrappedKey(key_id, wrapped))
        except (CallerError, CorruptionError) as error:
            yield f"key of call {key_id}", error.message
