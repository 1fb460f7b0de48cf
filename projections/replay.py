"""The proof that a projection is what the log says: all mailboxes by replay, and one digest of all.

Two servers' states, or a projection and a replay, are equal exactly when their digests are.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from projections.mailboxes import MAILBOXES, MESSAGE, MailboxEntry
from projections.projection import decode_entries, fold_events
from projections.reader import LogReader, read_pages
from projections.records import State, to_row
from projections.store import Asked, ProjectionStore

_WRITERS: Final = MESSAGE.writers("postgresql")
"""The stricter store's form: what it cannot hold as it was (U+0000 in a name) is equal then too."""


def replay_mailboxes(reader: LogReader, this_server: str, position: int | None = None) -> State:
    """Fold the mailboxes from the log's first event up to a position (its end) in memory."""
    state = State(this_server)
    stop = reader.head().position if position is None else position
    for page in read_pages(reader, stop):
        fold_events(MAILBOXES, state, decode_entries(page))
    return state


def mailboxes_digest(reader: LogReader, this_server: str, position: int | None = None) -> str:
    """Replay the log from nothing and give the SHA-256 over what all mailboxes list."""
    return _digest(replay_mailboxes(reader, this_server, position).all(MESSAGE))


def projected_mailboxes_digest(store: ProjectionStore) -> tuple[str, int]:
    """Give the same digest over the projection's tables, and the position that it stands for."""

    def question(asked: Asked) -> tuple[str, int]:
        table = asked.table(MESSAGE)
        listed = asked.records(MESSAGE, table.select().where(table.c.is_listed))
        return _digest(listed), asked.position

    return store.ask(MAILBOXES, question)


def _digest(entries: Iterable[MailboxEntry]) -> str:
    """Hash the listed entries in the order of mailbox, time and id, one line of JSON each."""
    rows = [_row(entry) for entry in entries if entry.is_listed]
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row[:3]):
        digest.update(msgspec.json.encode(row) + b"\n")
    return digest.hexdigest()


def _row(entry: MailboxEntry) -> list[Any]:
    values = to_row(entry, _WRITERS)
    return [entry.mailbox, values[_RECEIVED_AT], entry.message_id.hex, *values]


_RECEIVED_AT: Final = MESSAGE.columns.index("received_at")
