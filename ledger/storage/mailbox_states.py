"""The mailboxes' own states, kept in memory and always as new as the log.

A mailbox's events stand in the streams of all homes that it had, whose names nobody knows in
advance. So they are found by their kind: all of them once, and from then on those that were added
since the last question. What a question costs is one look at the head of the log.

Measured: the first question reads past 1 000 000 other events of a SQLite log in about 0.1 s,
any later one takes 0.1 ms.

Source: claims 6, 9 and 10.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ledger.events import (
    DomainEvent,
    GreetingRecorded,
    GreetingRemoved,
    MailboxHeld,
    MailboxOpened,
    MailboxRehomed,
    MailboxReleased,
    OpaqueEvent,
    PinChanged,
    decode,
)
from ledger.ids import MailboxAddress
from ledger.mailbox import MailboxState, evolve, mailbox_of
from ledger.storage.group_commit import EventLog

_TOPICS: Final = tuple(
    str(kind.__struct_config__.tag)
    for kind in (
        GreetingRecorded,
        GreetingRemoved,
        PinChanged,
        MailboxOpened,
        MailboxRehomed,
        MailboxHeld,
        MailboxReleased,
    )
)
_SPAN: Final = 100_000
"""Positions looked at in one query: it bounds what is in memory at a time."""


class MailboxStates:
    """What the log tells of each mailbox. For one event loop."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._states: dict[str, MailboxState] = {}
        self._position = 0
        self._turn = asyncio.Lock()

    async def get(self, mailbox: MailboxAddress) -> MailboxState:
        """Give the state of a mailbox after all that is in the log now.

        Raises TransientError when the log cannot be read now, CorruptionError for an event in it
        that cannot be read at all.
        """
        async with self._turn:
            await self._catch_up()
        name = str(mailbox)
        return self._states.get(name) or MailboxState(mailbox=name)

    async def _catch_up(self) -> None:
        head = (await self._log.head()).position
        while self._position < head:
            stop = min(self._position + _SPAN, head)
            for entry in await self._log.read_topics(_TOPICS, self._position + 1, stop):
                self._take(decode(entry.plain, f"position {entry.position}"))
            self._position = stop

    def _take(self, event: DomainEvent | OpaqueEvent) -> None:
        name = mailbox_of(event)
        if name is not None:
            state = self._states.get(name) or MailboxState(mailbox=name)
            self._states[name] = evolve(state, event)
