"""Change a mailbox's own events: what its greetings and its PIN share.

Only the home changes a mailbox, in a stream of its own for each incarnation of its log. Every
server has the outcome: the events travel to all of them, and with each the blob that it names.

Source: claims 6, 8 and 9.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from eventsourcing.persistence import IntegrityError

from ledger.errors import CallerError, NotFoundError, TransientError
from ledger.events import DomainEvent, ServerId, Stamp
from ledger.ids import MailboxAddress, mailbox_stream_id
from ledger.mailbox import MailboxState, Place
from ledger.server.parts import ServerParts
from ledger.storage.stored_form import RecordingMetadata, encode

_ATTEMPTS: Final = 10
Change = TypeVar("Change", bound=DomainEvent)


class NotHomeError(CallerError):
    """Another server is home to the mailbox; only that one changes it."""

    def __init__(self, mailbox: MailboxAddress, home: ServerId) -> None:
        super().__init__(f"the home of mailbox {mailbox} is {home}; change it at that server")
        self.custodian = home


def home_of(parts: ServerParts, mailbox: MailboxAddress) -> ServerId:
    """Say where a mailbox lives; raises NotFoundError when no server is home to it."""
    entry = parts.homes.home_of(mailbox)
    if entry is None:
        raise NotFoundError(
            f"no server is home to mailbox {mailbox}; the configuration names no such one"
        )
    return entry.id


async def own_mailbox(parts: ServerParts, mailbox: MailboxAddress) -> MailboxState:
    """Give the state of a mailbox that lives here; raises NotFoundError or NotHomeError."""
    state = await parts.mailboxes.get(mailbox)
    home = home_of(parts, mailbox)
    if home != parts.config.server:
        raise NotHomeError(mailbox, home)
    return state


async def change_mailbox(
    parts: ServerParts,
    mailbox: MailboxAddress,
    decide: Callable[[MailboxState, Place, Stamp], Change | None],
) -> tuple[MailboxState, Change | None]:
    """Append what ``decide`` makes of the mailbox's state; durable on return.

    Gives the state that was decided on and the event (None: nothing had to change). Raises
    NotFoundError, NotHomeError, and TransientError when others keep changing the same mailbox.
    """
    return await _change(parts, mailbox, decide, own_mailbox)


async def take_mailbox(
    parts: ServerParts,
    mailbox: MailboxAddress,
    decide: Callable[[MailboxState, Place, Stamp], Change | None],
) -> tuple[MailboxState, Change | None]:
    """Do the same for a mailbox that lives elsewhere: only to take it from there."""

    async def any_mailbox(parts: ServerParts, mailbox: MailboxAddress) -> MailboxState:
        return await parts.mailboxes.get(mailbox)

    return await _change(parts, mailbox, decide, any_mailbox)


async def _change(
    parts: ServerParts,
    mailbox: MailboxAddress,
    decide: Callable[[MailboxState, Place, Stamp], Change | None],
    find: Callable[[ServerParts, MailboxAddress], Awaitable[MailboxState]],
) -> tuple[MailboxState, Change | None]:
    for _ in range(_ATTEMPTS):
        state = await find(parts, mailbox)
        place = await _place(parts, mailbox)
        event = decide(state, place, Stamp(at=parts.clock.now(), by=parts.config.server))
        if event is None:
            return state, None
        try:
            # A crash before this commit leaves the mailbox as it was, and perhaps an orphan blob
            # that garbage collection drops; after it, the change is made and on its way to all.
            await parts.log.append_events([event])
        except IntegrityError:
            continue
        return state, event
    raise TransientError(f"mailbox {mailbox} is being changed by others; try again")


async def _place(parts: ServerParts, mailbox: MailboxAddress) -> Place:
    incarnation = (await parts.log.head()).incarnation
    stream = mailbox_stream_id(mailbox, parts.config.server, incarnation)
    entries = (await parts.log.read_streams([stream])).get(stream, [])
    return Place(stream, len(entries) + 1)


async def keep_blob(
    parts: ServerParts, mailbox: MailboxAddress, content: bytes, content_type: str | None
) -> tuple[str, int]:
    """Keep something of a mailbox as a blob; durable on return. Gives its address and its size."""
    head = await parts.log.head()
    metadata = RecordingMetadata(
        call_id=mailbox_stream_id(mailbox, parts.config.server, head.incarnation),
        server=parts.config.server,
        started_at=parts.clock.now(),
        content_type=content_type,
    )
    stored = await parts.offload(partial(encode, content, metadata))
    digest = hashlib.sha256(stored).hexdigest()
    # A crash in here leaves at most a blob that no event names. Nothing is promised yet.
    await parts.blob_offload(partial(parts.blobs.put, digest, stored))
    return digest, len(stored)
