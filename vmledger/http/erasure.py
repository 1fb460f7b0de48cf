"""Erase for good, on request: a message, a mailbox's messages, or whatever a caller left.

Source: claim 10.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from http import HTTPStatus
from typing import Final
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import JSONBody

from ledger.caller import CallerState
from ledger.errors import CallerError, ConflictError, NotFoundError
from ledger.events import CallErased, CallReceived, ErasureAnswered, MessageStored, ServerId, decode
from ledger.ids import MailboxAddress, erasure_stream_id
from ledger.migration.erasure_answers import refusals_of
from ledger.server import Erasing, NotInCustodyError
from projections.calls import CallOutcome
from projections.mailboxes import EntryStatus, MailboxEntry
from vmledger.access import OPERATE
from vmledger.http.accesses import note_viewed
from vmledger.http.parameters import AuthenticatedRequest, Id, Parts
from vmledger.http.parts import ApiParts
from vmledger.http.retention import Reason
from vmledger.http.routes import declare
from vmledger.message_proof import prove_entry

_PAGE: Final = 500
_MOST: Final = 1000


class Outcome(Enum):
    """What became of a request to erase a call."""

    ERASED = "erased"
    """The key of the call is destroyed: nobody can read anything of it any more."""
    KEY_KEPT = "key-kept"
    """The message is erased; the call's key is kept, because another message of it is not."""
    WOULD_BE = "would-be-erased"
    """A dry run."""
    ELSEWHERE = "elsewhere"
    """Another server answers for it: ask that one."""
    HELD = "held"
    """A legal hold stops it."""
    NOT_NOW = "not-now"
    """The call is not over, or being recorded: try again."""
    NOT_SEALED = "not-sealed"
    """The message is erased; who called was recorded before there were keys, and stays in logs."""


_NOT_DONE: Final = frozenset({Outcome.ELSEWHERE, Outcome.HELD, Outcome.NOT_NOW})


class ErasureRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Erase one of three things, for good."""

    reason: Reason
    """Who asked, and why: in your words."""
    message_id: UUID | None = None
    mailbox: str | None = None
    """All its messages: ``extension`` or ``extension@context``."""
    caller: str | None = None
    """All calls from this number, as the switch gave it, and their messages."""
    dry_run: bool = False
    """Only say what would be erased."""


class ErasedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the request is about."""

    call_id: UUID
    message_id: UUID | None
    """Null for a call that left no message."""
    mailbox: str | None
    outcome: Outcome
    server: ServerId
    """Who answers for it."""
    detail: str = ""


class ErasureReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, or would be."""

    dry_run: bool
    calls: list[ErasedCall]
    is_complete: bool
    """False: there is more than is done at a time; ask again."""


class ToldServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server that is to destroy its copy of the key: it was told, or mirrors this log."""

    server: ServerId
    has_answered: bool
    """Has it acknowledged the erasure? Then the key is destroyed there, unless it says why not. One
    that only mirrors this log has when its copy has taken it in."""
    kept_because: str | None
    """Why it keeps its key; null when it has destroyed it or has not answered."""
    mirror_has_taken_in: bool | None
    """The same of the copy of this log that it keeps; null when it keeps none."""


class ErasureCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """That a call was erased, with what proves it to a third party."""

    server: ServerId
    call_id: UUID
    message_ids: list[UUID]
    erased_at: datetime
    by: str
    reason: str
    recorded_by: ServerId
    """Who destroyed the key first."""
    position: int
    """Where that stands in this server's log."""
    is_key_destroyed: bool
    """Here, now."""
    is_sealed: bool | None
    """False: the call is from before there were keys. Who called can be read in every log and copy,
    and a recording in every backup. Null: this server has only heard of the erasure."""
    told: list[ToldServer]
    """When another server recorded it, only the mirrors of this log: ask that one for the rest."""
    event: str
    """The event that tells of it, byte for byte as it was hashed."""
    proof: str
    """That it stands in this server's log: a C2SP tlog-proof with the signed checkpoint."""


@dataclass(frozen=True, slots=True)
class _Target:
    call_id: UUID
    message_id: UUID | None
    mailbox: str | None
    server: ServerId


@post(
    "/v1/erasures",
    tags=["retention"],
    status_code=HTTPStatus.OK,
    **declare(OPERATE, 404, takes_json=True),
)
async def erase(
    data: JSONBody[ErasureRequest], request: AuthenticatedRequest, parts: Parts
) -> ErasureReport:
    """Destroy the keys of what is named, here and at every server.

    Whatever is recorded of it stays sealed for ever, in every log, copy and backup. At most 1000
    calls at a time. Only the server that answers for a message erases it; others are named.
    """
    if data.caller is not None:
        # The answer says whom this number called, also when nothing of it is erased.
        await note_viewed(parts, request, "calls")
    erasing = Erasing(request.user.name, data.reason)
    done: list[ErasedCall] = []
    others: list[ErasedCall] = []
    async for target in _targets(parts, data):
        if len(done) == _MOST:
            return ErasureReport(dry_run=data.dry_run, calls=done + others, is_complete=False)
        erased = await _erase(parts, target, None if data.dry_run else erasing)
        if erased.outcome not in _NOT_DONE:
            done.append(erased)
        elif len(others) < _MOST:
            others.append(erased)
    return ErasureReport(dry_run=data.dry_run, calls=done + others, is_complete=True)


@get("/v1/erasures/{of:uuid}", tags=["retention"], **declare(OPERATE, 404))
async def certify(of: Id, parts: Parts) -> ErasureCertificate:
    """Give the certificate of an erasure: who asked, why, and who has destroyed the key by now.

    ``of`` is the id of the call, or of its message.
    """
    call_id = await parts.ask(lambda: parts.questions.call_of_any(of)) or of
    stream = erasure_stream_id(call_id)
    found = await parts.log.read_streams([stream, call_id])
    if stream not in found:
        raise NotFoundError(f"{of} was not erased, as far as this server knows")
    (entry, *_) = found[stream]
    event = decode(entry.plain, f"position {entry.position}")
    assert isinstance(event, CallErased)
    answers = refusals_of([decode(e.plain, f"position {e.position}") for e in found[stream]])
    told = [decode(e.plain, f"position {e.position}") for e in found.get(call_id, ())]
    is_own = event.recorded_by == parts.config.server
    cosigned = await parts.offload(parts.cosigned_log)
    note = cosigned.best(entry.position) or cosigned.head
    recorder = parts.log.recorder
    return ErasureCertificate(
        server=parts.config.server,
        call_id=call_id,
        message_ids=[e.message_id for e in told if isinstance(e, MessageStored)],
        erased_at=event.recorded_at,
        by=event.by,
        reason=event.reason,
        recorded_by=event.recorded_by,
        position=entry.position,
        is_key_destroyed=await parts.server.is_erased(call_id),
        is_sealed=await _is_sealed(parts, call_id),
        told=_told(parts, event.told_to if is_own else (), entry.position, answers),
        event=entry.plain.decode(),
        proof=await parts.offload(lambda: prove_entry(entry, note, recorder.read_hashes)),
    )


def _told(
    parts: ApiParts,
    told_to: Sequence[ServerId],
    position: int,
    refusals: Mapping[ServerId, ErasureAnswered],
) -> list[ToldServer]:
    reached = {status.peer: status.acknowledged_position for status in parts.peer_statuses()}
    copied = {peer: copy.position for peer, copy in parts.mirrors().items()}
    mirrors = parts.config.directory.own.mirrors
    return [
        ToldServer(
            server=peer,
            has_answered=(reached if peer in told_to else copied).get(peer, 0) >= position,
            kept_because=_why(refusals.get(peer)),
            mirror_has_taken_in=copied.get(peer, 0) >= position if peer in mirrors else None,
        )
        for peer in sorted({*told_to, *mirrors})
    ]


def _why(refusal: ErasureAnswered | None) -> str | None:
    return f"{refusal.reason}: {refusal.detail}" if refusal is not None else None


async def _targets(parts: ApiParts, asked: ErasureRequest) -> AsyncIterator[_Target]:
    """Find what is to be erased. Nothing that is erased already."""
    named = [name for name in (asked.message_id, asked.mailbox, asked.caller) if name is not None]
    if len(named) != 1:
        raise CallerError("name one of message_id, mailbox and caller")
    if asked.message_id is not None:
        yield await _message(parts, asked.message_id)
    elif asked.mailbox is not None:
        mailbox = str(MailboxAddress.parse(asked.mailbox))
        async for entry in _messages_of(parts, mailbox):
            yield _target_of(entry)
    elif asked.caller is not None:
        async for target in _calls_from(parts, asked.caller):
            yield target


async def _message(parts: ApiParts, message_id: UUID) -> _Target:
    entry = await parts.ask(lambda: parts.questions.entry(message_id))
    if entry is None:
        raise NotFoundError(f"message {message_id} is not known here")
    return _target_of(entry)


def _target_of(entry: MailboxEntry) -> _Target:
    return _Target(entry.call_id, entry.message_id, entry.mailbox, entry.custody)


async def _messages_of(parts: ApiParts, mailbox: str) -> AsyncIterator[MailboxEntry]:
    after: UUID | None = None
    while page := await parts.ask(partial(parts.questions.all_messages, after, _PAGE)):
        for entry in page:
            if entry.mailbox == mailbox and entry.status is not EntryStatus.ERASED:
                yield entry
        after = page[-1].message_id


async def _calls_from(parts: ApiParts, number: str) -> AsyncIterator[_Target]:
    before: str | None = None
    while True:
        page = await parts.ask(partial(parts.questions.calls, None, before, _PAGE))
        for call in page.calls:
            if call.caller_state is not CallerState.KNOWN or call.caller_number != number:
                continue
            for message_id in call.message_ids:
                yield await _message(parts, message_id)
            if not call.message_ids and call.outcome is not CallOutcome.STORED:
                yield _Target(call.call_id, None, call.mailbox, call.taken_by)
        if page.next is None:
            return
        before = page.next


async def _erase(parts: ApiParts, target: _Target, erasing: Erasing | None) -> ErasedCall:
    """Erase, or say what would come of it."""
    outcome, detail, server = await _why_not(parts, target), "", target.server
    if outcome is None and erasing is None:
        outcome = Outcome.WOULD_BE
    if outcome is None and erasing is not None:
        try:
            outcome, detail = await _do(parts, target, erasing)
        except NotInCustodyError as error:
            outcome, server = Outcome.ELSEWHERE, error.custodian
        except ConflictError as error:
            outcome, detail = Outcome.NOT_NOW, error.message
    assert outcome is not None
    return ErasedCall(
        call_id=target.call_id,
        message_id=target.message_id,
        mailbox=target.mailbox,
        outcome=outcome,
        server=server,
        detail=detail,
    )


async def _why_not(parts: ApiParts, target: _Target) -> Outcome | None:
    if target.server != parts.config.server:
        return Outcome.ELSEWHERE
    mailbox = MailboxAddress.parse(target.mailbox) if target.mailbox is not None else None
    is_held = mailbox is not None and await parts.server.is_held(mailbox)
    return Outcome.HELD if is_held else None


async def _do(parts: ApiParts, target: _Target, erasing: Erasing) -> tuple[Outcome, str]:
    if target.message_id is None:
        erased = await parts.server.erase_call(target.call_id, erasing)
    else:
        erased = await parts.server.erase_message(target.call_id, target.message_id, erasing)
    if not erased.is_key_destroyed:
        others = ", ".join(str(message_id) for message_id in erased.kept_for)
        return Outcome.KEY_KEPT, f"it seals message {others} too"
    is_sealed = await _is_sealed(parts, target.call_id)
    return (Outcome.NOT_SEALED if is_sealed is False else Outcome.ERASED), ""


async def _is_sealed(parts: ApiParts, call_id: UUID) -> bool | None:
    """Was who called sealed? None when this log does not tell of the call."""
    entries = (await parts.log.read_streams([call_id])).get(call_id, [])
    events = (decode(entry.plain, f"position {entry.position}") for entry in entries)
    begun = [event for event in events if isinstance(event, CallReceived)]
    return all(isinstance(event.personal, str) for event in begun) if begun else None
