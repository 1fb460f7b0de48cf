"""The read models' answers in the words of the HTTP contract.

The records of a projection may change with its version; what the API shows may not. The two meet
here and nowhere else. Methods are synchronous and may wait for a database: handlers call them off
the event loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.caller import SeenCaller
from ledger.clock import Clock
from ledger.configuration import Configuration, Homes, ServerEntry
from ledger.errors import CallerError
from ledger.events import AudioFacts, PeerState, ReachabilityEvidence, ServerId
from ledger.ids import MailboxAddress
from ledger.mailbox import GreetingKind
from ledger.migration.log_sharing import Acknowledged
from ledger.migration.mirroring import MirrorState
from ledger.storage.callers import Callers
from projections.calls import CallKey, Calls
from projections.mailboxes import MailboxEntry, Mailboxes, MailboxPage, PageKey
from projections.pending import Pending
from projections.pending import PendingMessage as WaitingMessage
from projections.profiles import Profiles, Said
from projections.runner import ProjectionStatus
from projections.servers import PeerRecord, Servers
from projections.servers import ServersView as KnownServers
from vmledger.http.views import (
    CallPage,
    CallView,
    CopyView,
    GreetingView,
    MailboxCounts,
    MailboxView,
    MessageView,
    MirrorView,
    PendingHome,
    PendingMessage,
    PendingView,
    ProfileView,
    ProjectionView,
    RecallView,
    ServersView,
    ServerView,
    WentBackView,
)
from vmledger.read_models import ReadModels
from vmledger.witnessed import WitnessedUpTo

_CURSOR: Final = re.compile(r"(\d{1,18})\.([0-9a-f]{32})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

LiveEvidence = Callable[[ServerId], ReachabilityEvidence | None]
"""What this process knows of a peer right now: fresher than the log, which holds only changes."""

Witnesses = Callable[[], Sequence[WitnessedUpTo]]
"""Reads up to where the other servers co-signed this log."""


@dataclass(frozen=True, slots=True)
class CopyReaders:
    """Say what this process knows of whole copies of logs."""

    acknowledged: Callable[[], Mapping[ServerId, Acknowledged]] = dict
    """What each mirror said last that it holds of this server's log."""
    copied: Callable[[], Sequence[MirrorState]] = tuple
    """How far others' logs are copied here."""


class Questions:
    """Answers from the read models. Methods may be called from any thread."""

    def __init__(
        self,
        config: Configuration,
        homes: Homes,
        read_models: ReadModels,
        clock: Clock,
        *,
        callers: Callers,
        live_evidence: LiveEvidence,
        witnesses: Witnesses,
        copies: CopyReaders,
    ) -> None:
        self._config = config
        self._homes = homes
        self._models = read_models
        self._mailboxes = Mailboxes(read_models.store)
        self._profiles = Profiles(read_models.store)
        self._calls = Calls(read_models.store)
        self._pending = Pending(read_models.store)
        self._servers = Servers(read_models.store)
        self._clock = clock
        self._callers = callers
        self._live_evidence = live_evidence
        self._witnesses = witnesses
        self._copies = copies

    def wait_for(self, position: int, timeout_s: float) -> bool:
        """Wait until every answer includes the log up to there; False when time ran out."""
        return self._models.wait_for(position, timeout_s)

    def mailbox(self, mailbox: MailboxAddress, before: str | None, limit: int) -> MailboxView:
        """Give a page of a mailbox as it is now; an unknown mailbox is an empty one.

        Raises CallerError for a cursor that is none of ours; so do all pages below.
        """
        key = _read_cursor(before)
        page = self._mailboxes.page(
            str(mailbox), before=PageKey(*key) if key is not None else None, limit=limit
        )
        return self._mailbox_view(mailbox, page)

    def mailbox_at(
        self,
        mailbox: MailboxAddress,
        moment: int | datetime,
        before: str | None,
        limit: int,
    ) -> MailboxView:
        """Give a page of a mailbox as it was at a position, or at a time."""
        key = _read_cursor(before)
        page = self._models.mailbox_then(
            mailbox, moment, before=PageKey(*key) if key is not None else None, limit=limit
        )
        return self._mailbox_view(mailbox, page)

    def _mailbox_view(self, mailbox: MailboxAddress, page: MailboxPage) -> MailboxView:
        home = self._homes.home_of(mailbox)
        following = page.next_before
        return MailboxView(
            mailbox=str(mailbox),
            home=home.id if home is not None else None,
            epoch=self._homes.epoch_of(str(mailbox)),
            as_of=page.position,
            counts=msgspec.convert(page.counts, MailboxCounts, from_attributes=True),
            messages=self._message_views(page.entries),
            next=_cursor(following.received_at, following.message_id) if following else None,
        )

    def _message_views(self, entries: Sequence[MailboxEntry]) -> list[MessageView]:
        seen = self._callers.see((entry.call_id, entry.caller) for entry in entries)
        return [_message_view(entry, who) for entry, who in zip(entries, seen, strict=True)]

    def profile(self, mailbox: MailboxAddress) -> ProfileView:
        """Give a mailbox's own settings; an unknown mailbox has none."""
        answer = self._profiles.profile(str(mailbox))
        profile, home = answer.profile, self._config.directory.home_of(mailbox)
        return ProfileView(
            mailbox=str(mailbox),
            home=profile.home or (home.id if home is not None else None),
            epoch=profile.epoch,
            as_of=answer.position,
            greetings=[view for said in profile.greetings if (view := _greeting_view(said))],
            has_pin=profile.pin is not None,
            pin_changed_at=profile.pin.recorded_at if profile.pin is not None else None,
        )

    def greeting_sound(
        self, mailbox: MailboxAddress, kind: GreetingKind
    ) -> tuple[str, AudioFacts] | None:
        """Give a greeting's blob and what is known of its sound; None when there is none."""
        said = self._profiles.profile(str(mailbox)).profile.greeting(kind.value)
        if said is None or said.blob is None or said.audio is None:
            return None
        return said.blob, said.audio

    def message(self, mailbox: MailboxAddress, message_id: UUID) -> MessageView | None:
        """Give one message of a mailbox; None if it is not there."""
        found = self.any_message(message_id)
        return found if found is not None and found.mailbox == str(mailbox) else None

    def any_message(self, message_id: UUID) -> MessageView | None:
        """Give one message that this server answers for; None for any other."""
        entry = self._mailboxes.message(message_id)
        return self._message_views([entry])[0] if entry is not None and entry.is_listed else None

    def entry(self, message_id: UUID) -> MailboxEntry | None:
        """Give what is known of a message, also of one that no mailbox lists any more."""
        return self._mailboxes.message(message_id)

    def all_messages(self, after: UUID | None, limit: int) -> list[MailboxEntry]:
        """Give a page of all messages that the log tells of, by their ids."""
        return self._mailboxes.all_messages(after=after, limit=limit)

    def call_of(self, message_id: UUID) -> UUID | None:
        """Give the call that a message waiting here belongs to; None if no such message waits."""
        entry = self._mailboxes.message(message_id)
        return entry.call_id if entry is not None and entry.is_pending else None

    def call_of_any(self, message_id: UUID) -> UUID | None:
        """Give the call of a message that this log tells of; None when it tells of none."""
        entry = self._mailboxes.message(message_id)
        return entry.call_id if entry is not None else None

    def calls(self, extension: str | None, before: str | None, limit: int) -> CallPage:
        """Give a page of the call history, of one extension or of all."""
        key = _read_cursor(before)
        page = self._calls.page(
            extension=extension, before=CallKey(*key) if key is not None else None, limit=limit
        )
        following = page.next_before
        seen = self._callers.see((call.call_id, call.caller) for call in page.calls)
        return CallPage(
            as_of=page.position,
            calls=[
                _same_fields(call, CallView, **who.columns())
                for call, who in zip(page.calls, seen, strict=True)
            ],
            next=_cursor(following.received_at, following.call_id) if following else None,
        )

    def pending(self, limit: int) -> PendingView:
        """Give what waits here for other servers, with the oldest messages."""
        homes = self._pending.homes()
        now = self._clock.now()
        return PendingView(
            count=sum(home.count for home in homes),
            homes=[
                PendingHome(
                    home=home.home,
                    count=home.count,
                    size_bytes=home.size_bytes,
                    oldest_at=home.oldest_at,
                    oldest_age_s=home.oldest_age_s(now),
                    held=home.held_count,
                    held_reasons=home.held_reasons,
                    held_oldest_age_s=home.held_age_s(now),
                )
                for home in homes
            ],
            messages=[
                self._pending_view(message)
                for message in (self._pending.messages(limit=limit) if limit else ())
            ],
        )

    def _pending_view(self, message: WaitingMessage) -> PendingMessage:
        home = self._homes.name_of_home(message.mailbox)
        view: PendingMessage = _same_fields(message, PendingMessage, mailbox_home=home)
        return view

    def count_of(self, mailbox: MailboxAddress) -> int:
        """Count the messages of a mailbox that this server answers for."""
        counts = self._mailboxes.counts(str(mailbox))
        return counts.new + counts.old + counts.deleted

    def servers(self) -> ServersView:
        """Give the servers of the configuration and what is known of them."""
        view = self._servers.view()
        known = {peer.peer: peer for peer in view.peers}
        witnessed = {one.server: one for one in self._witnesses()}
        own_safe = view.own.safe_position
        return ServersView(
            as_of=view.position,
            servers=[
                self._own_view(entry.id, entry.url, own_safe)
                if entry.id == self._config.server
                else msgspec.structs.replace(
                    self._peer_view(entry, known.get(entry.id), witnessed.get(entry.id)),
                    mirror=self._mirror_view(entry.id, view.position),
                    copy=self._copy_view(entry.id),
                )
                for entry in self._config.directory.servers.values()
            ],
            went_back=self._went_back_view(view),
        )

    def _went_back_view(self, view: KnownServers) -> WentBackView | None:
        found = view.went_back(entry.id for entry in self._config.directory.peers)
        if found is None:
            return None
        recalls = [_same_fields(one, RecallView) for one in found.recalls]
        went_back: WentBackView = _same_fields(
            found, WentBackView, recalls=recalls, waiting_for=list(found.waiting_for)
        )
        return went_back

    def _own_view(self, server: ServerId, url: str, safe_position: int) -> ServerView:
        return ServerView(
            id=server, url=url, is_self=True, state=PeerState.UP, safe_position=safe_position
        )

    def _peer_view(
        self, entry: ServerEntry, record: PeerRecord | None, witnessed: WitnessedUpTo | None
    ) -> ServerView:
        peer = record if record is not None else PeerRecord(peer=entry.id)
        live = self._live_evidence(entry.id)
        return ServerView(
            id=entry.id,
            url=entry.url,
            is_self=False,
            state=live.state if live is not None else peer.state,
            since=peer.since,
            evidence=live if live is not None else peer.evidence,
            receipt_position=peer.receipt_position,
            receipt_at=peer.receipt_at,
            safe_position=peer.receipt_safe_position,
            migrated_count=peer.migrated_count,
            delivered_count=peer.delivered_count,
            witnessed_position=witnessed.position if witnessed is not None else 0,
            witnessed_at=witnessed.at if witnessed is not None else None,
            fork_witnessed_at=peer.fork_witnessed_at,
            went_back_at=peer.went_back_at,
            send_limit_bytes_per_s=entry.bandwidth.limit_at(self._clock.now()),
        )

    def _mirror_view(self, peer: ServerId, position: int) -> MirrorView | None:
        if peer not in self._config.directory.own.mirrors:
            return None
        known = self._copies.acknowledged().get(peer)
        if known is None:
            return MirrorView(lag_events=position)
        return MirrorView(
            acknowledged_position=known.position,
            acknowledged_at=known.at,
            lag_events=max(0, position - known.position),
        )

    def _copy_view(self, peer: ServerId) -> CopyView | None:
        for state in self._copies.copied():
            if state.origin == peer:
                return CopyView(
                    position=state.position,
                    lag_events=state.lag_events,
                    checked_at=state.checked_at,
                    missing_recordings=state.missing,
                    problem=state.problem,
                )
        return None

    def projections(self) -> list[ProjectionView]:
        """Give how far each read model is."""
        return [
            ProjectionView(
                name=status.name,
                version=status.version,
                is_serving=status.is_serving,
                state=status.state.value,
                position=status.position,
                lag_events=status.lag_events,
                lag_s=status.lag_s,
                opaque_count=status.opaque_count,
                error=_why_stopped(status),
            )
            for status in self._models.statuses()
        ]


def _why_stopped(status: ProjectionStatus) -> str | None:
    if status.stopped_error is None:
        return None
    return f"position {status.stopped_position} ({status.stopped_topic}): {status.stopped_error}"


_KINDS: Final = {kind.value: kind for kind in GreetingKind}


def _greeting_view(said: Said) -> GreetingView | None:
    """Show a greeting; None for a kind that only a newer program knows."""
    kind, audio = _KINDS.get(said.subject), said.audio
    if kind is None or audio is None:
        return None
    return GreetingView(
        kind=kind,
        duration_ms=audio.duration_ms,
        codec=audio.codec,
        digest=audio.digest,
        size_bytes=audio.size_bytes,
        recorded_at=said.recorded_at,
        recorded_by=said.server,
    )


def _message_view(entry: MailboxEntry, who: SeenCaller) -> MessageView:
    return MessageView(
        message_id=entry.message_id,
        call_id=entry.call_id,
        mailbox=entry.mailbox,
        status=entry.status.value,
        received_at=entry.received_at,
        delivered_at=entry.delivered_at,
        caller_state=who.state,
        caller_number=who.caller.number,
        caller_name=who.caller.name,
        duration_ms=entry.duration_ms,
        codec=entry.codec,
        size_bytes=entry.audio_size_bytes,
        origin=entry.origin,
        home=entry.home,
        custody=entry.custody,
        is_pending=entry.is_pending,
        is_recovered=entry.is_recovered,
        heard_at=entry.heard_at,
        heard_by=entry.heard_by,
    )


def _same_fields(record: msgspec.Struct, view: type[Any], **others: Any) -> Any:
    """Build a view from the fields of a record that have the same names."""
    names = set(record.__struct_fields__)
    same = {name: getattr(record, name) for name in view.__struct_fields__ if name in names}
    return view(**(same | others))


def _cursor(at: datetime, item: UUID) -> str:
    return f"{(at - _EPOCH) // _MICROSECOND}.{item.hex}"


def _read_cursor(text: str | None) -> tuple[datetime, UUID] | None:
    if text is None:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise CallerError(f"before={text!r} is no page mark; give what 'next' was")
    try:
        return _EPOCH + int(found[1]) * _MICROSECOND, UUID(found[2])
    except OverflowError as error:
        raise CallerError(f"before={text!r} is no page mark; give what 'next' was") from error
