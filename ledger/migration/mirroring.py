"""A mirror's side: keep a whole copy of another server's log, and of what its events name.

Every second the origin is asked how far it is, and told how far its copy is; what is new is copied
at once. A copy grows only by what continues it under the origin's own signature. An origin whose
log is shorter than its copy, or another one, has lost or changed something: the copy is kept aside
as it is, and a new one begins. Only keys that the log destroys from then on are destroyed in it
too, before the origin is told that the mirror has taken that in.

What no message of the origin needs any more leaves the copy too, once an hour.

Source: claims 7 and 8; RFC 9162 section 2.1.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from ledger.clock import Clock
from ledger.configuration import Directory
from ledger.errors import LedgerError
from ledger.events import CallErased, MessageStored, ServerId, decode
from ledger.identity import Verifier, verify_signature
from ledger.migration.blob_fetch import complete
from ledger.migration.link import PeerClient, PeerLink
from ledger.migration.log_fetch import LogFetch
from ledger.migration.log_source import LogSource, LogTarget, OtherHistoryError, PeerSource
from ledger.migration.travelling_keys import CALL_ERASED
from ledger.migration.wire import LogStateRequest
from ledger.offload import Offload
from ledger.sealing import WrappedKey
from ledger.storage.blob_care import gc
from ledger.storage.event_log import Append, LogRecorder
from ledger.storage.log_copy import Copies, KeptCopy

_LOG: Final = logging.getLogger(__name__)

_POLL_S: Final = 1.0
_MOST_PAUSE_S: Final = 60.0
_CARE_EVERY_S: Final = 3600.0
_GC_MIN_AGE_S: Final = 1.0
"""Whoever copies also tidies up: nobody else is about to name what nothing names yet."""

Needed = Callable[[LogRecorder, ServerId], set[str]]
"""Reads from a log which blobs its server must have."""


@dataclass(frozen=True, slots=True)
class MirrorState:
    """How far the copy of an origin's log is."""

    origin: ServerId
    position: int = 0
    """What is durable here."""
    origin_position: int = 0
    """Where the origin's log ended when it was asked last."""
    checked_at: datetime | None = None
    """When that was; None when it was not reached since this server started."""
    missing: int = 0
    """Recordings that the origin must have and could not give."""
    problem: str = ""
    """Why the last attempt failed; empty when it did not."""

    @property
    def lag_events(self) -> int:
        """How many events the copy was behind at that time."""
        return max(0, self.origin_position - self.position)


class Mirroring:
    """Keeps the copies of all servers that name this one as mirror. For one event loop."""

    def __init__(
        self,
        links: Mapping[ServerId, PeerLink],
        *,
        directory: Directory,
        shelf: Copies,
        needed: Needed,
        clock: Clock,
        offload: Offload,
        verify: Verifier = verify_signature,
    ) -> None:
        self._mirrors = [
            Mirror(
                PeerSource(PeerClient(links[entry.id]), offload),
                entry.id,
                entry.public_key,
                shelf=shelf,
                needed=needed,
                clock=clock,
                offload=offload,
                verify=verify,
            )
            for entry in directory.peers
            if directory.this_server in entry.mirrors
        ]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def states(self) -> Sequence[MirrorState]:
        """How far each copy is."""
        return [mirror.state for mirror in self._mirrors]

    async def start(self) -> None:
        """Begin to copy."""
        self._tasks = [
            asyncio.create_task(mirror.run(), name=f"mirror-{mirror.state.origin}")
            for mirror in self._mirrors
        ]

    async def stop(self) -> None:
        """End; what is not copied is copied after the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Mirror:
    """Keeps the copy of one origin's log."""

    def __init__(
        self,
        source: LogSource,
        origin: ServerId,
        public_key: bytes,
        *,
        shelf: Copies,
        needed: Needed,
        clock: Clock,
        offload: Offload,
        verify: Verifier = verify_signature,
    ) -> None:
        self.state = MirrorState(origin)
        self._source = source
        self._origin = origin
        self._public_key = public_key
        self._shelf = shelf
        self._needed = needed
        self._clock = clock
        self._offload = offload
        self._verify = verify
        self._cared_s: float | None = None
        self._erased_until = 0
        """What the copy that grows tells up to here to be erased is so in those kept aside too."""

    async def run(self) -> None:
        """Copy for ever; ends only when cancelled."""
        pause_s = _POLL_S
        while True:
            try:
                while await self.advance():
                    pass
                await self._care()
                pause_s = _POLL_S
            except LedgerError as error:
                self._note_problem(str(error))
                pause_s = min(2 * pause_s, _MOST_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - else nobody would copy any more
                _LOG.exception("action=mirroring-failed origin=%s", self._origin)
                self._note_problem(f"{type(error).__name__}: {error}")
                pause_s = _MOST_PAUSE_S
            await self._clock.sleep(pause_s)

    async def advance(self) -> bool:
        """Ask how far the origin is, and copy up to there; False when there was nothing new."""
        copy = await self._offload(lambda: self._shelf.current(self._origin))
        head = await self._offload(copy.recorder.head)
        if self._erased_until < head.position:
            # Before it is told what is held: whoever certifies an erasure relies on that.
            await self._offload(partial(self._erase_aside, copy, head.position))
            self._erased_until = head.position
        answer = await self._source.log_state(
            LogStateRequest(
                of=self._origin,
                held_incarnation=head.incarnation if head.position else None,
                held_position=head.position,
            )
        )
        if len(answer.copies) != 1:
            self._note_problem("it does not say how far its log is")
            return False
        origin = answer.copies[0]
        self._note(head.position, origin.position)
        if not origin.position and not head.position:
            return False
        fetch = LogFetch(
            self._source,
            origin,
            self._target(copy),
            offload=self._offload,
            on_progress=lambda reached, _through, _blobs: self._note(reached, origin.position),
        )
        try:
            fetched = await fetch.run()
        except OtherHistoryError as error:
            place = await self._offload(
                lambda: self._shelf.set_aside(self._origin, self._clock.now())
            )
            self._erased_until = 0
            _LOG.error(
                "action=alarm origin=%s problem=its log is not what it was: %s; the copy is kept "
                "in %s",
                self._origin,
                error,
                place,
            )
            return True
        return bool(fetched.events)

    def _erase_aside(self, copy: KeptCopy, end: int) -> None:
        """Destroy keys in the copies that are kept aside, as the growing one tells up to there."""
        aside = [one for one in self._shelf.copies(self._origin) if one.name != copy.name]
        start = self._erased_until + 1
        entries = copy.recorder.read_topics((CALL_ERASED,), start, end) if aside else []
        told = (decode(entry.plain, f"position {entry.position}") for entry in entries)
        for erasure in [event for event in told if isinstance(event, CallErased)]:
            for one in aside:
                self._erase_in(one, erasure)

    def _erase_in(self, copy: KeptCopy, erasure: CallErased) -> None:
        try:
            _destroy_key(copy.recorder, erasure)
        except LedgerError as error:
            # A damaged copy must not keep the log from being copied.
            _LOG.error(
                "action=key-not-destroyed origin=%s copy=%s call=%s error=%s",
                self._origin,
                copy.name,
                erasure.call_id,
                error,
            )

    async def _care(self) -> None:
        """Get what could not be had before, and drop what the origin does not need any more."""
        now_s = self._clock.monotonic_s()
        if self._cared_s is not None and now_s - self._cared_s < _CARE_EVERY_S:
            return
        copy = await self._offload(lambda: self._shelf.current(self._origin))
        missing = await complete(
            self._source,
            self._target(copy),
            await self._offload(lambda: self._needed(copy.recorder, self._origin)),
            self._offload,
        )
        await self._offload(partial(self._tidy, copy))
        self._cared_s = now_s
        self._note(self.state.position, self.state.origin_position, missing=len(missing))

    def _tidy(self, copy: KeptCopy) -> None:
        needed = self._needed(copy.recorder, self._origin)
        located = copy.recorder.locate_blobs(sorted(needed))
        gc(copy.blobs, needed, located, min_age_s=_GC_MIN_AGE_S)

    def _target(self, copy: KeptCopy) -> LogTarget:
        return LogTarget(
            of=self._origin,
            public_key=self._public_key,
            recorder=copy.recorder,
            blobs=copy.blobs,
            cosigned=copy.cosigned,
            checkpoint=copy.checkpoint,
            verify=self._verify,
        )

    def _note(self, position: int, origin_position: int, missing: int | None = None) -> None:
        self.state = MirrorState(
            self._origin,
            position,
            origin_position,
            self._clock.now(),
            self.state.missing if missing is None else missing,
        )

    def _note_problem(self, problem: str) -> None:
        _LOG.warning("action=not-mirrored origin=%s error=%s", self._origin, problem)
        old = self.state
        self.state = MirrorState(
            self._origin,
            old.position,
            old.origin_position,
            old.checked_at,
            old.missing,
            problem,
        )


def _destroy_key(recorder: LogRecorder, erasure: CallErased) -> None:
    """Destroy the key of an erased call, unless another message is sealed with it there."""
    key = recorder.read_keys([erasure.call_id]).get(erasure.call_id)
    if key is None or key.wrapped is None:
        return
    entries = recorder.read_streams([erasure.call_id]).get(erasure.call_id, [])
    events = (decode(entry.plain, f"position {entry.position}") for entry in entries)
    stored = {event.message_id for event in events if isinstance(event, MessageStored)}
    if stored <= set(erasure.message_ids):
        # After a crash before this all erasures are looked at again, and nobody was told.
        recorder.commit_whole([Append([], keys=[WrappedKey(erasure.call_id, None)])])
