"""Messages follow their mailboxes: what is to be done here when a mailbox has another home.

At the start, and whenever an event that names a home is committed here, whoever recorded it: learn
it, say so if this server is that home, and send what does not belong here any more to where it
does. Every step is decided on what stands in the log then and is safe to repeat. So a crash between
two steps, or a mailbox that moves on meanwhile, needs no code of its own: the next look finds what
is left.

Messages that may be at the home where they were sent last are not sent elsewhere; the worker for
that home asks first.

Source: claims 5, 6 and 13.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Final
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from ledger.clock import Clock
from ledger.configuration import Homes
from ledger.errors import CallerError, LedgerError
from ledger.events import (
    DomainEvent,
    IncarnationStarted,
    MailboxOpened,
    MailboxRehomed,
    MessageDelivered,
    MessageStored,
    MigrationRefused,
    OpaqueEvent,
    ServerId,
    decode,
)
from ledger.ids import MailboxAddress, mailbox_stream_id
from ledger.journey import Journey, Stage
from ledger.mailbox import HomeClaim, home_claim_of
from ledger.migration.known_homes import HOME_TOPICS, read_home_events
from ledger.migration.refusal_reason import RefusalReason
from ledger.migration.settlement import MAILBOX_MOVED, Settlement
from ledger.migration.unsettled import find_unsettled
from ledger.storage.event_log import LogEntry
from ledger.storage.group_commit import EventLog

_LOG: Final = logging.getLogger(__name__)

_RETRY_S: Final = 5.0
_MOST_RETRY_S: Final = 3600.0
_WITHOUT_SOUND: Final = frozenset(
    {RefusalReason.AUDIO_MISSING, RefusalReason.AUDIO_CORRUPT, RefusalReason.KEY_MISSING}
)
"""Why a message was set aside: its recording is not here as it was, or nobody here can open it."""
_AT_A_TIME: Final = 200
"""Messages that are sent away in one append: it bounds how long others wait for the log."""
_NEW_INCARNATION: Final = str(IncarnationStarted.__struct_config__.tag)
_CONCERNED: Final = frozenset(
    str(kind.__struct_config__.tag) for kind in (MessageStored, MessageDelivered, MigrationRefused)
)


class MailboxFollower:
    """Keeps this server's messages where their mailboxes are. For one event loop."""

    def __init__(
        self,
        *,
        homes: Homes,
        log: EventLog,
        clock: Clock,
        settlement: Settlement,
        is_asked: Callable[[ServerId], bool],
    ) -> None:
        """``is_asked`` says whether a worker asks that server for what was sent to it."""
        self._homes = homes
        self._log = log
        self._clock = clock
        self._settlement = settlement
        self._is_asked = is_asked
        self._moved: set[str] = set()
        self._given: dict[HomeClaim, MailboxRehomed] = {}
        """How mailboxes left this server."""
        self._wake = asyncio.Event()
        self._again = _Again(clock)

    def note(self, entries: Iterable[LogEntry]) -> None:
        """Take note of what was committed: homes, and messages that came too late to theirs."""
        for entry in entries:
            if entry.topic in HOME_TOPICS:
                self._note_home(entry)
            elif entry.topic == _NEW_INCARNATION and entry.origin is None:
                self._moved.update(self._homes.rehomed)  # all is said again, in streams of its own
            elif entry.origin is None and entry.topic in _CONCERNED:
                self._note_message(decode(entry.plain, f"position {entry.position}"))
        if self._moved:
            self._wake.set()

    def _note_home(self, entry: LogEntry) -> None:
        event = decode(entry.plain, f"position {entry.position}")
        self._homes.learn(event)
        self._note_given(event)
        claim = home_claim_of(event)
        # Also when that was known already: its home says that it knows now.
        if claim is not None and not (entry.origin is None and isinstance(event, MailboxOpened)):
            self._moved.add(claim.mailbox)

    def _note_given(self, event: DomainEvent | OpaqueEvent) -> None:
        if isinstance(event, MailboxRehomed) and event.from_home == self._homes.this_server:
            self._given[HomeClaim(event.mailbox, event.epoch, event.to_home)] = event

    def _note_message(self, event: DomainEvent | OpaqueEvent) -> None:
        if isinstance(event, MessageStored):
            # The caller began to speak when the configuration still named this home.
            is_lost = event.home != self._homes.this_server and not self._is_asked(event.home)
            if is_lost:
                self._moved.add(event.mailbox)
        elif isinstance(event, MessageDelivered) and event.mailbox in self._homes.rehomed:
            if not self._homes.is_ours(event.mailbox):
                self._moved.add(event.mailbox)
        elif isinstance(event, MigrationRefused) and event.reason == RefusalReason.NOT_MY_MAILBOX:
            self._again.note(event.originator_id, event.message_id)

    async def run(self) -> None:
        """Look at everything once, then at mailboxes that moved; ends only when cancelled."""
        mailboxes: Collection[str] | None = None
        while True:
            try:
                await self._follow(mailboxes)
            except (LedgerError, IntegrityError) as error:
                _LOG.warning("action=mailboxes-not-followed error=%s", error)
                await self._clock.sleep(_RETRY_S)
                continue
            await self._wake.wait()
            self._wake.clear()
            mailboxes, self._moved = self._moved, set()

    async def run_again(self) -> None:
        """Send messages again whose home did not know yet that it is; ends only when cancelled."""
        while True:
            for stream, message_id in await self._again.due():
                try:
                    await self._settlement.send_again(stream, message_id, MAILBOX_MOVED)
                except LedgerError as error:
                    _LOG.warning("action=not-sent-again message=%s error=%s", message_id, error)
                    self._again.note(stream, message_id)

    async def _follow(self, mailboxes: Collection[str] | None) -> None:
        if mailboxes is None:
            await self._recall_given()
        await self._tell(list(self._homes.rehomed) if mailboxes is None else mailboxes)
        going: list[Journey] = []
        for journey in await find_unsettled(self._log, self._homes, mailboxes):
            if journey.is_undelivered:
                await self._settlement.deliver(journey)
            elif journey.stage is Stage.AT_HOME:
                going.append(journey)
            else:
                await self._send_on(journey)
        for start in range(0, len(going), _AT_A_TIME):
            count = await self._settlement.hand_over(going[start : start + _AT_A_TIME])
            _LOG.info("action=handed-over messages=%d", count)

    async def _send_on(self, journey: Journey) -> None:
        home = self._homes.name_of_home(journey.mailbox)
        if home is None:
            _LOG.error("action=no-home message=%s mailbox=%s", journey.message_id, journey.mailbox)
        elif home == self._homes.this_server and journey.refused in _WITHOUT_SOUND:
            # To deliver it here would show a message that nobody can play.
            _LOG.error("action=held message=%s home=%s", journey.message_id, home)
        elif (home != journey.home and self._may_not_have(journey)) or self._is_unaware(journey):
            with contextlib.suppress(CallerError):  # it arrived in the meantime
                await self._settlement.requeue(journey.call_id, journey.message_id, MAILBOX_MOVED)
        elif journey.refused is not None:
            _LOG.error("action=held message=%s home=%s", journey.message_id, journey.home)
        elif home != journey.home:
            _LOG.warning(
                "action=asking-former-home message=%s home=%s asked=%s",
                journey.message_id,
                home,
                journey.home,
            )

    def _may_not_have(self, journey: Journey) -> bool:
        """Is it certain that the home named in the log does not hold the message?"""
        return journey.refused is not None or not self._is_asked(journey.home)

    def _is_unaware(self, journey: Journey) -> bool:
        """Did the home refuse it only because it did not know yet that it is the home?"""
        is_rehomed = journey.mailbox in self._homes.rehomed
        return is_rehomed and journey.refused == RefusalReason.NOT_MY_MAILBOX

    async def _tell(self, mailboxes: Collection[str]) -> None:
        """Say of each mailbox that came here or left here that it did.

        So its home is told by two logs, the one that gave it away (perhaps by force) and the one
        that took it; either of them may go back in time, and hears of it again from the other,
        which ships its log to it once more.
        """
        claims = [self._homes.rehomed[name] for name in mailboxes if name in self._homes.rehomed]
        for claim in claims:
            if claim.home == self._homes.this_server:
                await self._tell_one(claim, MailboxOpened)
            elif claim in self._given:
                given = self._given[claim]
                await self._tell_one(
                    claim,
                    MailboxRehomed,
                    from_home=given.from_home,
                    to_home=given.to_home,
                    by=given.by,
                )

    async def _tell_one(
        self, claim: HomeClaim, kind: type[MailboxOpened | MailboxRehomed], **fields: str
    ) -> None:
        incarnation = (await self._log.head()).incarnation
        address = MailboxAddress.parse(claim.mailbox)
        stream = mailbox_stream_id(address, self._homes.this_server, incarnation)
        entries = (await self._log.read_streams([stream])).get(stream, [])
        told = (home_claim_of(decode(e.plain, f"position {e.position}")) for e in entries)
        if claim in told:
            return
        event = kind(
            originator_id=stream,
            originator_version=len(entries) + 1,
            recorded_at=self._clock.now(),
            recorded_by=self._homes.this_server,
            mailbox=claim.mailbox,
            epoch=claim.epoch,
            **fields,  # type: ignore[arg-type]  # each caller names the fields of its kind
        )
        await self._log.append_events([event])

    async def _recall_given(self) -> None:
        """Find in the log which mailboxes this server had and has not any more."""
        async for entry in read_home_events(self._log):
            self._note_given(decode(entry.plain, f"position {entry.position}"))


class _Again:
    """Messages that are to be sent again, each after a pause that doubles."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_s: dict[tuple[UUID, UUID], float] = {}
        self._tries: dict[tuple[UUID, UUID], int] = {}
        self._wake = asyncio.Event()

    def note(self, stream: UUID, message_id: UUID) -> None:
        key = (stream, message_id)
        tries = self._tries[key] = self._tries.get(key, -1) + 1
        pause_s = min(_RETRY_S * 2 ** min(tries, 30), _MOST_RETRY_S)
        self._due_s[key] = self._clock.monotonic_s() + pause_s
        self._wake.set()

    async def due(self) -> list[tuple[UUID, UUID]]:
        """Wait until some are due, and give those."""
        while True:
            await self._wake.wait()
            now_s = self._clock.monotonic_s()
            found = [key for key, due_s in self._due_s.items() if due_s <= now_s]
            for key in found:
                del self._due_s[key]
            if not self._due_s:
                self._wake.clear()
            if found:
                return found
            if self._due_s:
                await self._clock.sleep(max(0.1, min(self._due_s.values()) - now_s))
