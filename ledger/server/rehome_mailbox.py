"""Give a mailbox another home, or take it when its home is lost for good.

One event decides it: `MailboxRehomed`, under the next epoch. From its commit on this server acts by
it, and every other one from the moment that it hears of it; the messages follow by themselves
(`ledger.migration.mailbox_follower`). A server that has not heard of it goes on taking messages for
the mailbox, and hands them over when it does.

Source: claims 6, 8 and 9.
"""

from __future__ import annotations

from functools import partial

from ledger.errors import CallerError
from ledger.events import Epoch, MailboxRehomed, ServerId, Stamp
from ledger.ids import MailboxAddress
from ledger.mailbox import MailboxState, Place
from ledger.server.change_mailbox import NotHomeError, change_mailbox, home_of, take_mailbox
from ledger.server.parts import ServerParts


async def rehome_mailbox(
    parts: ServerParts, mailbox: MailboxAddress, to: ServerId, by: str, *, is_forced: bool = False
) -> Epoch:
    """Move a mailbox to another server; durable on return. Gives the epoch of its home.

    Only the present home gives a mailbox away. With ``is_forced`` this server takes it, whatever
    its home thinks; that is for a home that is lost for good. When the mailbox lives there already
    nothing changes.

    Raises NotFoundError for a server or mailbox that the configuration does not know, NotHomeError
    when another server must be asked, CallerError for a mailbox that shall be forced elsewhere.
    """
    parts.homes.directory.entry(to)
    home = home_of(parts, mailbox)
    if home == to == parts.config.server:
        return parts.homes.epoch_of(str(mailbox))
    if is_forced:
        if to != parts.config.server:
            raise CallerError(f"a mailbox is forced by the server that takes it; do this at {to}")
        change = take_mailbox
    else:
        change = change_mailbox
    decide = partial(_rehome, parts, to=to, by=by, is_forced=is_forced)
    # A crash after this commit leaves a moved mailbox whose messages the next start sends after it.
    state, event = await change(parts, mailbox, decide)
    if event is None:
        return state.epoch
    parts.homes.learn(event)
    return event.epoch


def _rehome(
    parts: ServerParts,
    state: MailboxState,
    place: Place,
    stamp: Stamp,
    *,
    to: ServerId,
    by: str,
    is_forced: bool,
) -> MailboxRehomed | None:
    """Decide on the state of the log, which may be newer than what the first look saw."""
    mailbox = MailboxAddress.parse(state.mailbox)
    home = state.home or home_of(parts, mailbox)
    if home == to:
        return None
    if not is_forced and home != stamp.by:
        raise NotHomeError(mailbox, home)
    return MailboxRehomed(
        originator_id=place.stream,
        originator_version=place.version,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        mailbox=state.mailbox,
        from_home=home,
        to_home=to,
        epoch=state.epoch + 1,
        by=by,
        is_forced=is_forced,
    )
