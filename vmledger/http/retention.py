"""Retention rules carried out when somebody says so, and the legal holds that stop them.

Source: claim 10.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import delete, post
from litestar.params import JSONBody, QueryParameter

from ledger.errors import ConflictError, NotFoundError
from ledger.events import decode
from ledger.ids import MailboxAddress, message_stream_id
from ledger.server import Due, NotInCustodyError
from projections.mailboxes import EntryStatus, MailboxEntry
from vmledger.access import OPERATE
from vmledger.http.parameters import AuthenticatedRequest, Context, Extension, Parts
from vmledger.http.parts import ApiParts
from vmledger.http.routes import declare

_PAGE: Final = 500
_MOST: Final = 1000

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class Step(Enum):
    """What a rule does to a message."""

    TRASH = "trash"
    """It goes to the trash, and can be restored."""
    ERASE = "erase"
    """It is erased for good."""


class RetentionRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Carry out what is due."""

    dry_run: bool = False
    """Only say what would be done."""


class DueMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a rule is about."""

    message_id: UUID
    mailbox: str
    step: Step
    since: datetime
    """Since when nothing was done to it."""
    is_held: bool
    """A legal hold stops it: nothing was done, or would be."""


class RetentionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, or would be."""

    dry_run: bool
    messages: list[DueMessage]
    is_complete: bool
    """False: more is due than is done at a time; run it again."""


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Put a mailbox under a legal hold."""

    reason: Reason
    """A case, an order: in your words."""


class HeldView(msgspec.Struct, frozen=True, kw_only=True):
    """How a mailbox stands."""

    mailbox: str
    is_held: bool


@post(
    "/v1/retention/run",
    tags=["retention"],
    status_code=HTTPStatus.OK,
    **declare(OPERATE, takes_json=True),
)
async def run_retention(data: JSONBody[RetentionRun], parts: Parts) -> RetentionReport:
    """Do what the rules of the configuration say, to messages that this server answers for.

    Messages that still wait for their home are left to it. At most 1000 at a time. What was done is
    recorded as done by `retention`; what goes to the trash can be restored.
    """
    done: list[DueMessage] = []
    held: list[DueMessage] = []
    async for due, step, since in _due(parts):
        if len(done) == _MOST:
            return RetentionReport(dry_run=data.dry_run, messages=done + held, is_complete=False)
        is_held = await parts.server.is_held(due.mailbox)
        if not is_held and not data.dry_run:
            try:
                if not await _carry_out(parts, due, step):
                    continue
            except ConflictError:
                is_held = True  # Since just now.
        found = DueMessage(
            message_id=due.message_id,
            mailbox=str(due.mailbox),
            step=step,
            since=since,
            is_held=is_held,
        )
        if not is_held:
            done.append(found)
        elif len(held) < _MOST:
            held.append(found)
    return RetentionReport(dry_run=data.dry_run, messages=done + held, is_complete=True)


async def _carry_out(parts: ApiParts, due: Due, step: Step) -> bool:
    """Do it; False for a message that changed or left meanwhile: it is let be.

    Raises ConflictError when a hold came in between.
    """
    try:
        if step is Step.TRASH:
            return await parts.server.trash_by_rule(due)
        days = parts.config.retention_for(due.mailbox).erase_trash_after_days
        return await parts.server.erase_by_rule(due, f"in the trash for {days:g} days")
    except (NotFoundError, NotInCustodyError):
        return False


async def _due(parts: ApiParts) -> AsyncIterator[tuple[Due, Step, datetime]]:
    """Find what is due, a page of messages at a time."""
    now, after = parts.clock.now(), None
    while page := await parts.ask(partial(parts.questions.all_messages, after, _PAGE)):
        for entry in page:
            found = await _judge(parts, entry, now)
            if found is not None:
                yield found
        after = page[-1].message_id


async def _judge(
    parts: ApiParts, entry: MailboxEntry, now: datetime
) -> tuple[Due, Step, datetime] | None:
    is_ours = entry.is_listed and not entry.is_pending and entry.custody == parts.config.server
    if not is_ours or parts.homes.name_of_home(entry.mailbox) != parts.config.server:
        return None
    mailbox = MailboxAddress.parse(entry.mailbox)
    rules = parts.config.retention_for(mailbox)
    is_in_trash = entry.status is EntryStatus.DELETED
    days = rules.erase_trash_after_days if is_in_trash else rules.trash_after_days
    is_old = now - entry.received_at > timedelta(days=days)
    if not days or not is_old or entry.status is EntryStatus.SAVED:
        return None
    since, version = await _last_deed(parts, entry)
    if now - since <= timedelta(days=days):
        return None
    due = Due(mailbox, entry.call_id, entry.message_id, version)
    return due, (Step.ERASE if is_in_trash else Step.TRASH), since


async def _last_deed(parts: ApiParts, entry: MailboxEntry) -> tuple[datetime, int]:
    """Say when anything was done to the message last, and the version of the last event here.

    Stored, heard, also once more, moved to the trash, restored. That it came here with its mailbox
    counts too: then it is kept the longer for it.
    """
    own = message_stream_id(entry.message_id, parts.config.server)
    last = (await parts.log.read_streams([own]))[own][-1]
    # What was done at another server stands elsewhere, and may have been heard of later.
    (changed,) = await parts.log.read(entry.changed_position, 1)
    events = (decode(one.plain, f"position {one.position}") for one in (last, changed))
    return max(event.recorded_at for event in events), last.originator_version


@post(
    "/v1/mailboxes/{extension:str}/hold",
    tags=["retention"],
    status_code=HTTPStatus.OK,
    **declare(OPERATE, 404, 409, takes_json=True),
)
async def hold_mailbox(
    extension: Extension,
    *,
    data: JSONBody[Hold],
    request: AuthenticatedRequest,
    parts: Parts,
    context: Context = "default",
) -> HeldView:
    """Put a mailbox under a legal hold: no rule moves its messages to the trash or erases them.

    Its owner may still move a message to the trash, where it stays. Only the home does this.
    """
    mailbox = MailboxAddress(extension, context)
    await parts.server.hold_mailbox(mailbox, request.user.name, data.reason)
    return HeldView(mailbox=str(mailbox), is_held=True)


@delete(
    "/v1/mailboxes/{extension:str}/hold",
    tags=["retention"],
    status_code=HTTPStatus.OK,
    **declare(OPERATE, 404, 409),
)
async def release_mailbox(
    extension: Extension,
    *,
    request: AuthenticatedRequest,
    parts: Parts,
    reason: Annotated[
        str, QueryParameter(min_length=1, max_length=1000, description="Why it is over.")
    ],
    context: Context = "default",
) -> HeldView:
    """End a mailbox's legal hold."""
    mailbox = MailboxAddress(extension, context)
    await parts.server.release_mailbox(mailbox, request.user.name, reason)
    return HeldView(mailbox=str(mailbox), is_held=False)
