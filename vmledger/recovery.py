"""Rebuild a lost server from whoever holds something of it.

The log and what it names come from copies: of mirrors, or directories (a mirror's copy, a backup).
The longest one that the server itself signed is taken, page by page (but none that another tells
is a former history of the log, if there is that other one); any other one that continues it serves
as well when the first is cut off. Every server that is asked also says up to where it
signed for the log, or took in what it ships: so what is missing is known even when nobody has it.
What no copy holds but an ordinary server does, comes back when the recovered server starts: it is a
new incarnation, and asks all others for what it recorded (`ledger.migration.recall`).

While it is not finished (`vmledger.recovery_folder`) no server starts; the same command goes on
where it was killed.

Source: claims 5, 8 and 10; RFC 9162 section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from ledger.checkpoint import Checkpoint, log_key, parse_checkpoint, read_log_name
from ledger.clock import Clock
from ledger.configuration import Configuration
from ledger.errors import (
    CallerError,
    ConflictError,
    LedgerError,
    NotFoundError,
    PeerError,
    TransientError,
)
from ledger.events import (
    CallReceived,
    DomainEvent,
    IncarnationStarted,
    LogRecovered,
    MessageDelivered,
    MessageMigrated,
    MessageStored,
    OpaqueEvent,
    ServerId,
    decode,
)
from ledger.ids import server_stream_id
from ledger.migration.blob_fetch import BlobCarrier, complete
from ledger.migration.former_events import blob_of
from ledger.migration.log_fetch import LogFetch
from ledger.migration.log_reading import incarnations_in
from ledger.migration.log_source import (
    LogSource,
    LogTarget,
    OtherHistoryError,
    Progress,
    no_progress,
)
from ledger.migration.log_writing import LogWriter
from ledger.migration.page_reader import expect_signed
from ledger.migration.travelling_keys import CALL_RECEIVED, is_sealed_call
from ledger.migration.wire import CopyState, KeptKey, LogState, LogStateRequest, TrackedRow
from ledger.offload import Offload
from ledger.sealing import WrappedKey
from ledger.storage.event_log import Append, LogHead, LogRecorder
from ledger.storage.mapper import to_stored_event
from ledger.storage.vault import Vault
from vmledger.blob_needs import BlobNeeds, needed_blobs
from vmledger.recovery_folder import RecoveryFolder
from vmledger.recovery_report import MissingBlob, RecoveryReport, SourceReport

_PAGE: Final = 2000


class BetterCopyError(TransientError):
    """A longer or newer copy than the one that could be had may be had later."""

    def __init__(self, source: str, copy: CopyState, through: int, problem: LedgerError) -> None:
        super().__init__(
            f"{source} has {copy.position} events of incarnation {copy.incarnation}, which could "
            f"not be copied: {problem}; recover once more, or name with --from only what you want "
            "to go on with (the directory of a copy will do)"
        )
        self.sources = (source,)
        self._incarnation = copy.incarnation
        self._through = through

    def is_in(self, copy: CopyState, through: int) -> bool:
        """Does another copy that is read to there hold all of it?"""
        return copy.incarnation == self._incarnation and through >= self._through


class UnfinishedCopyError(TransientError):
    """What is held is the beginning of a copy that may be had from who does not answer now."""

    def __init__(self, position: int, away: Sequence[SourceReport]) -> None:
        told = "; ".join(f"{report.name}: {report.problem}" for report in away)
        super().__init__(
            f"{position} events were copied before, and are only the beginning of a copy, which "
            f"may be with those who cannot be asked now ({told}); recover once more, or name with "
            "--from only what you want to go on with"
        )
        self.sources = tuple(report.name for report in away)


class _Known(NamedTuple):
    """Up to where somebody knows the log."""

    source: str
    incarnation: UUID
    position: int
    root: bytes


@dataclass(slots=True)
class _Heard:
    """What the sources say."""

    sources: list[tuple[LogSource, SourceReport]] = field(default_factory=list)
    copies: list[tuple[LogSource, SourceReport, CopyState]] = field(default_factory=list)
    """Those that the server signed, in the order in which they are to be tried."""
    signed: list[_Known] = field(default_factory=list)


@dataclass(slots=True)
class FoldedLog:
    """What a log tells while it is copied from its beginning."""

    needs: BlobNeeds
    vault: Vault
    unopened: set[UUID] = field(default_factory=set)
    """Sealed calls for which no key came that can be opened."""
    absent: set[str] = field(default_factory=set)
    """Blobs that its events name and that did not come with it."""

    def take(
        self, events: Sequence[DomainEvent | OpaqueEvent], first: int, keys: Sequence[KeptKey]
    ) -> None:
        """Fold the next events, with the keys that came with them."""
        # As they are kept: the first of a call's, and none of calls that begin elsewhere.
        came = {key.call_id: WrappedKey(key.call_id, key.wrapped) for key in reversed(keys)}
        for position, event in enumerate(events, first):
            self.needs.take(event, position)
            if isinstance(event, CallReceived) and isinstance(event.personal, str):
                key = came.get(event.originator_id)
                if key is None or not self.vault.opens(key):
                    self.unopened.add(event.originator_id)


class Recovery:
    """One recovery into the empty stores of a configuration. The data lock must be held."""

    def __init__(
        self,
        config: Configuration,
        target: LogTarget,
        folder: RecoveryFolder,
        sources: Sequence[LogSource],
        *,
        vault: Vault,
        offload: Offload,
        clock: Clock,
        new_id: Callable[[], UUID],
        until: int | datetime | None = None,
        on_progress: Progress = no_progress,
        carrier_from: Callable[[LogSource], BlobCarrier | None] = lambda _source: None,
        writer: LogWriter | None = None,
    ) -> None:
        """Join the parts.

        ``carrier_from`` says who brings the blobs, and ``writer`` commits; None: this process does.
        """
        self._target = target
        self._folder = folder
        self._sources = sources
        self._vault = vault
        self._offload = offload
        self._clock = clock
        self._now = clock.now()
        self._new_id = new_id
        self._until = until
        self._on_progress = on_progress
        self._carrier_from = carrier_from
        self._writer = writer
        keep_for = timedelta(days=config.retention.keep_audio_days_after_delivery)
        self._keep_for = keep_for
        self._folded: FoldedLog | None = None
        """What the log told while it was copied, if that was done in one go."""
        self._is_cut_by_time: bool | None = None
        """Was the log cut because what follows is too late? None: a former run has seen to that."""
        self._began_s = clock.monotonic_s()

    async def run(self) -> RecoveryReport:
        """Recover; durable on return.

        Raises ConflictError for stores that are not empty, or hold a part that no source continues
        or that reaches behind what is wanted;
        NotFoundError when no source knows of the server's log; and what `LogFetch.run` raises when
        no copy can be read to its end: run again.
        """
        new = await self._offload(self._begin)
        started = server_stream_id(self._target.of, new)
        await self._offload(partial(self._expect_wanted, started))
        heard = await self._ask_all()
        read = partial(self._target.recorder.read_streams, [started])
        if not (await self._offload(read)).get(started):
            await self._copy_log(heard)
        lost = await self._offload(partial(self._end_of_copy, started))
        missing = await self._complete(heard)
        report = await self._offload(partial(self._judge, heard, new, lost, missing))
        await self._offload(partial(self._finish, heard, report))
        return report

    def _begin(self) -> UUID:
        """Give the incarnation that the server will go on under: the same after every crash."""
        position = self._target.recorder.head().position
        if position and not self._folder.is_open:
            raise ConflictError(
                f"the log of {self._target.of} has {position} events already and is not "
                "overwritten; put it aside, and recover into empty stores"
            )
        return self._folder.begin(self._new_id())

    def _expect_wanted(self, started: UUID) -> None:
        """Raise ConflictError when a former run, of which more was wanted, copied too much."""
        end, until = self._end_of_copy(started).position, self._until
        if until is None or not end:
            return
        if isinstance(until, int):
            is_wanted = end <= until
        else:
            own = (
                e for at, e, origin in _events(self._target.recorder) if at <= end and not origin
            )
            is_wanted = all(event.recorded_at <= until for event in own)
        if not is_wanted:
            raise ConflictError(
                f"a run that was not finished copied {end} events, and that is more than --until "
                "asks for now; empty the stores, and recover once more"
            )

    # --- Ask ------------------------------------------------------------------------------------

    async def _ask_all(self) -> _Heard:
        heard, target = _Heard(), self._target
        for source in self._sources:
            report = SourceReport(name=source.name)
            heard.sources.append((source, report))
            try:
                state = await source.log_state(LogStateRequest(of=target.of))
            except LedgerError as error:
                report.problem = str(error)
                continue
            self._hear(heard, source, report, state)
        # The longest first; but a log that went back and went on comes before what it had been:
        # by that, the others have sent again, elsewhere perhaps, what it had forgotten.
        left = {incarnation for _, _, copy in heard.copies for incarnation in copy.former}
        heard.copies.sort(
            key=lambda item: (item[2].is_aside, item[2].incarnation in left, -item[2].position)
        )
        if not heard.signed and not await self._offload(self._is_vouched_for):
            told = "; ".join(f"{r.name}: {r.problem or 'knows nothing'}" for _, r in heard.sources)
            raise NotFoundError(
                f"nobody who was asked knows of a log of {target.of} ({told or 'nobody was'}); "
                "name its mirrors, other servers, or directories with --from"
            )
        return heard

    def _hear(
        self, heard: _Heard, source: LogSource, report: SourceReport, state: LogState
    ) -> None:
        known: list[_Known] = []
        for copy in state.copies:
            report.copies.append(copy.position)
            try:
                expect_signed(copy, self._target)
            except LedgerError as error:
                report.problem = str(error)
                continue
            if copy.position:
                heard.copies.append((source, report, copy))
                known.append(_known(source.name, copy))
        for text in state.witnessed:
            if (signed := _signed_by_server(text, self._target)) is not None:
                incarnation, checkpoint = signed
                known.append(_Known(source.name, incarnation, checkpoint.size, checkpoint.root))
        known += (_known(source.name, row) for row in state.tracked)
        heard.signed += known
        report.known_until = max((one.position for one in known), default=0)

    # --- Copy -----------------------------------------------------------------------------------

    async def _copy_log(self, heard: _Heard) -> None:
        """Copy from the first of the copies; from the next one where it cannot be had.

        One that is shorter, or of a former history, will only do where the better one is not what
        its source says. While that may be had later nothing else is begun with, which it could not
        continue: raises BetterCopyError. What a former run copied to its end is enough, if nobody
        has it any more; what it did not, only if all could be asked: raises UnfinishedCopyError.
        """
        target = self._target
        self._is_cut_by_time = False
        problems: list[LedgerError] = []
        better: BetterCopyError | None = None
        passed_over = False
        for source, report, copy in heard.copies:
            is_empty = (await self._offload(target.recorder.head)).position == 0
            folded = FoldedLog(BlobNeeds(target.of, self._keep_for, self._now), self._vault)
            fetch = LogFetch(
                source,
                copy,
                target,
                offload=self._offload,
                until=self._until,
                on_progress=self._on_progress,
                on_page=folded.take,
                carrier=self._carrier_from(source),
                writer=self._writer,
            )
            if better is not None and not better.is_in(copy, fetch.through):
                passed_over = True
                continue
            try:
                fetched = await fetch.run()
            except LedgerError as error:
                report.problem = str(error)
                problems.append(error)
                if better is None and not isinstance(error, OtherHistoryError | PeerError):
                    better = BetterCopyError(source.name, copy, fetch.through, error)
                continue
            folded.absent.update(fetched.absent)
            self._folded = folded if is_empty else None
            self._is_cut_by_time = fetched.is_cut
            return
        if better is not None and passed_over:
            raise better
        for problem in problems:
            if not isinstance(problem, OtherHistoryError):
                raise problem  # there may be more than is held here
        if not await self._offload(self._is_vouched_for) and problems:
            raise ConflictError(
                f"{problems[0]}; nobody can continue what was copied so far: empty the stores, and "
                "recover once more"
            )
        await self._offload(partial(self._expect_all_asked, heard))

    def _expect_all_asked(self, heard: _Heard) -> None:
        """Raise UnfinishedCopyError when what nobody continued may be the beginning of more."""
        position = self._target.recorder.head().position
        away = [report for _, report in heard.sources if report.problem and not report.copies]
        if position and away and not self._is_vouched_for():
            raise UnfinishedCopyError(position, away)

    def _is_vouched_for(self) -> bool:
        """Are there events already, and the word of their server for just these?"""
        head = self._target.recorder.head()
        return head.position > 0 and self._target.checkpoint.read(head) is not None

    def _end_of_copy(self, started: UUID) -> LogHead:
        """Say where the copied log ends: before what a former run of this recovery wrote."""
        recorder = self._target.recorder
        head = recorder.head()
        written = recorder.read_streams([started]).get(started, [])
        if not written:
            return head
        # The head may be under the new incarnation already; what is told is told of the former one.
        first, position = written[0], written[0].position - 1
        began = decode(first.plain, f"position {first.position}")
        assert isinstance(began, IncarnationStarted), "that is what `_finish` writes first"
        return LogHead(began.previous, position, recorder.root_at(position))

    async def _complete(self, heard: _Heard) -> list[str]:
        target = self._target
        if self._folded is not None:
            needed = self._folded.needs.needed() & self._folded.absent
        else:
            read = partial(needed_blobs, target.recorder, target.of, self._keep_for, self._now)
            needed = await self._offload(read)
        missing = await self._offload(partial(_not_held, target, sorted(needed)))
        for source, report in heard.sources:
            if not missing or (report.problem and not report.copies):
                continue
            try:
                missing = await complete(source, target, missing, self._offload)
            except LedgerError as error:
                report.problem = str(error)
        return await self._offload(partial(_not_held, target, missing))

    # --- Judge and finish -------------------------------------------------------------------------

    def _judge(
        self, heard: _Heard, new: UUID, end: LogHead, missing: Sequence[str]
    ) -> RecoveryReport:
        target = self._target
        # What was signed under an incarnation that the log itself has left behind counts no more.
        # (Not by what a former run of this recovery wrote behind its end.)
        superseded = incarnations_in(target.of, target.recorder, end.position) - {end.incarnation}
        told = [one for one in heard.signed if one.incarnation not in superseded]
        ahead = [one for one in told if one.position > end.position]
        root_at = target.recorder.root_at
        others = {
            one.source
            for one in told
            if one.position <= end.position and root_at(one.position) != one.root
        }
        # If only what was put aside could be had, who put it aside knows that another log followed.
        others |= {report.name for _, report, copy in heard.copies if _is_left(copy, end)}
        present = [c for _, _, c in heard.copies if c.incarnation not in superseded]
        longest = max((copy.position for copy in present), default=0)
        return RecoveryReport(
            server=target.of,
            incarnation=new,
            position=end.position,
            known_until=max([end.position, *(one.position for one in ahead)]),
            root=end.root.hex(),
            is_cut=end.position < longest and self._is_as_asked(end.position),
            is_beginning=self._is_beginning(end),
            told_by=sorted({one.source for one in ahead}),
            other_histories=sorted(others),
            missing=list(self._name(missing)),
            unreadable_calls=self._unreadable_calls(end.position),
            sources=[report for _, report in heard.sources],
            seconds=round(self._clock.monotonic_s() - self._began_s, 3),
        )

    def _is_as_asked(self, end: int) -> bool:
        """Does the log end here because no more was asked for?"""
        if isinstance(self._until, int):
            return end >= self._until
        # Of a time only who reads on from here knows.
        return self._until is not None and self._is_cut_by_time is not False

    def _is_beginning(self, end: LogHead) -> bool:
        """Was it not copied to where its server signed, though that was wanted?"""
        is_signed = not end.position or self._target.checkpoint.read(end) is not None
        return not is_signed and not self._is_as_asked(end.position)

    def _unreadable_calls(self, end: int) -> int:
        if self._folded is not None:
            return self._count_unreadable(self._folded.unopened)
        recorder, count = self._target.recorder, 0
        for start in range(1, end + 1, _PAGE):
            stop = min(start + _PAGE - 1, end)
            entries = recorder.read_topics([CALL_RECEIVED], start, stop)
            count += self._count_unreadable(e.originator_id for e in entries if is_sealed_call(e))
        return count

    def _count_unreadable(self, calls: Iterable[UUID]) -> int:
        wanted = list(calls)
        found = self._vault.find(wanted) if wanted else {}
        return sum(c not in found or isinstance(found[c], LedgerError) for c in wanted)

    def _name(self, missing: Sequence[str]) -> Iterable[MissingBlob]:
        """Say what the missing blobs belong to, and who had them once."""
        if not missing:
            return
        target = self._target
        wanted = set(missing)
        named: dict[str, tuple[int, UUID | None]] = {}
        servers: dict[str, set[ServerId]] = {digest: set() for digest in missing}
        blob_of_message: dict[UUID, str] = {}
        for position, event, origin in _events(target.recorder):
            if (found := blob_of(event)) is not None and found[0] in wanted:
                message = event.message_id if isinstance(event, MessageStored) else None
                named.setdefault(found[0], (position, message))
                servers[found[0]] |= {origin or "", event.recorded_by}
                if message is not None:
                    blob_of_message[message] = found[0]
            if isinstance(event, MessageMigrated | MessageDelivered):
                digest = blob_of_message.get(event.message_id)
                if digest is not None:
                    home = event.home if isinstance(event, MessageMigrated) else ""
                    servers[digest] |= {home, event.recorded_by}
        for digest in missing:
            position, message = named.get(digest, (0, None))
            yield MissingBlob(
                digest=digest,
                position=position,
                message_id=message,
                might_be_at=sorted(servers[digest] - {"", target.of}),
            )

    def _finish(self, heard: _Heard, report: RecoveryReport) -> None:
        """Begin the new incarnation, and let the server start."""
        target = self._target
        stream = server_stream_id(target.of, report.incarnation)
        recorder = target.recorder
        if not recorder.read_streams([stream]).get(stream):
            head = recorder.head()
            heard_of = {one.incarnation for one in heard.signed}
            unknown = heard_of - incarnations_in(target.of, recorder) - {head.incarnation}
            events: list[DomainEvent] = [
                IncarnationStarted(
                    originator_id=stream,
                    originator_version=version,
                    recorded_at=self._now,
                    recorded_by=target.of,
                    incarnation=report.incarnation,
                    previous=previous,
                    position=head.position if previous == head.incarnation else 0,
                    reason="the log was recovered",
                )
                for version, previous in enumerate((head.incarnation, *sorted(unknown)), 1)
            ]
            events.append(
                LogRecovered(
                    originator_id=stream,
                    originator_version=len(events) + 1,
                    recorded_at=self._now,
                    recorded_by=target.of,
                    sources=[source.name for source in report.sources],
                    position=report.position,
                )
            )
            for result in recorder.commit([Append([to_stored_event(e) for e in events])]):
                if isinstance(result, Exception):
                    raise result
        # A crash between the events and this leaves events of an incarnation that nobody has heard
        # of, and the recovery unfinished: the next run goes on here.
        recorder.start_incarnation(report.incarnation)
        self._folder.finish()


def _is_left(copy: CopyState, end: LogHead) -> bool:
    """Is this what was recovered, and had the log become another one when it was asked again?"""
    is_recovered = (copy.incarnation, copy.position) == (end.incarnation, end.position)
    return copy.is_aside and is_recovered and copy.root == end.root.hex()


def _known(source: str, told: CopyState | TrackedRow) -> _Known:
    return _Known(source, told.incarnation, told.position, bytes.fromhex(told.root))


def _signed_by_server(text: str, target: LogTarget) -> tuple[UUID, Checkpoint] | None:
    """Read a checkpoint that somebody kept: only what the lost server signed itself counts."""
    try:
        note, checkpoint = parse_checkpoint(text)
        server, incarnation = read_log_name(checkpoint.log)
    except CallerError:
        return None
    key = log_key(server, incarnation, target.public_key)
    if server != target.of or not note.is_signed_by(key, target.verify):
        return None
    return incarnation, checkpoint


def _events(
    recorder: LogRecorder,
) -> Iterable[tuple[int, DomainEvent | OpaqueEvent, ServerId | None]]:
    start = 1
    while page := recorder.read(start, _PAGE):
        for entry in page:
            yield entry.position, decode(entry.plain, f"position {entry.position}"), entry.origin
        start = page[-1].position + 1


def _not_held(target: LogTarget, digests: Sequence[str]) -> list[str]:
    packed = target.recorder.locate_blobs(digests)
    return [d for d in digests if d not in packed and not target.blobs.has(d)]
