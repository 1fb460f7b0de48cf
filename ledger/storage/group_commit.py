"""Group commit: all appends that wait at one moment share one transaction.

A sync to disk costs the same for one event and for a thousand. So whoever finds nobody committing
commits for all who wait; who comes meanwhile waits for the next turn. Each gets its own result,
and a clash fails only its own caller. `GroupCommit` does this for threads; `EventLog` is the
asynchronous face that servers use.

Source: claim 10.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final, TypeAlias
from uuid import UUID

from ledger.errors import TransientError
from ledger.events import DomainEvent
from ledger.offload import Offload
from ledger.sealing import WrappedKey
from ledger.storage.event_log import (
    Append,
    Appended,
    BlobLocation,
    LogEntry,
    LogHead,
    LogRecorder,
    TrackedOrigin,
)
from ledger.storage.mapper import to_stored_event
from ledger.storage.message_streams import read_with_earlier

Commit: TypeAlias = Callable[[Sequence[Append]], Sequence[Appended | Exception]]
Listener: TypeAlias = Callable[[LogHead], None]

_log: Final = logging.getLogger(__name__)

_Job: TypeAlias = tuple[Append, Future[Appended]]

MOST_WAITING: Final = 10_000
"""Appends that may wait; beyond it the log is overloaded and says so."""
MOST_EVENTS_A_COMMIT: Final = 5_000
"""Events after which a transaction takes no further append: it bounds the wait of the next."""


_RECENT_S: Final = 15.0
"""How long a failure is held to last when nobody tries again."""
_YIELDS: Final = 4
"""Times that a thread lets others run before it commits for those who are there."""


class GroupCommit:
    """Joins concurrent appends into transactions. Safe to use from any thread."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._waiting: deque[_Job] = deque()
        self._last_group = 0
        self._turn = threading.Lock()
        """Held by the one who commits."""
        self._next = threading.Lock()
        """Held by the one who waits for its turn. All others wait for their results only: a crowd
        before a lock would keep those whose append is long done."""
        self._listeners: list[Listener] = []
        self._failed: tuple[float, str] | None = None
        """When the last group failed as a whole, and why; None after one that did not."""

    def trouble(self) -> str:
        """Say why nothing could be committed moments ago; empty when that worked."""
        failed = self._failed
        if failed is None or time.monotonic() - failed[0] > _RECENT_S:
            return ""
        return failed[1]

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener`` after each commit, in the thread that committed; it must not block."""
        self._listeners.append(listener)

    def add(self, append: Append) -> Future[Appended]:
        """Queue an append; somebody must call `commit_waiting` after this.

        Raises TransientError when too many wait already.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise TransientError(f"{MOST_WAITING} appends wait for the disk already; try again")
        future: Future[Appended] = Future()
        self._waiting.append((append, future))
        return future

    def append(self, append: Append) -> Appended:
        """Append and wait; durable on return. Raises what failed this append alone."""
        future = self.add(append)
        # Whoever is next has not looked at the queue yet: it will find this append there, too.
        while not future.done() and self._next.acquire(blocking=False):
            self._commit_as_next()
        return future.result()

    def _commit_as_next(self) -> None:
        with self._turn:
            self._await_usual_crowd()
            # Given up before the queue is read: who comes after this moment may miss this commit.
            self._next.release()
            self._commit_waiting()

    def _await_usual_crowd(self) -> None:
        """Let the callers of the last group come back, if they do so at once.

        The first of them would commit alone, and the others wait for that: measured, half of all
        commits. A caller who is alone waits for nobody.
        """
        for _ in range(_YIELDS):
            if len(self._waiting) >= self._last_group:
                return
            time.sleep(0)

    def commit_waiting(self) -> None:
        """Commit what waits now. When somebody else is committing, wait for that first."""
        with self._turn:
            self._commit_waiting()

    def _commit_waiting(self) -> None:
        """Commit what waits at this moment, in as many groups as it takes."""
        present = len(self._waiting)
        try:
            while present > 0:
                present -= self._commit_group()
        except BaseException:
            # The program is told to stop: nobody is left to commit for those behind.
            self.fail_waiting(TransientError("the program stops; try again when it is up"))
            raise

    def _commit_group(self) -> int:
        jobs, taken = self._take()
        self._last_group = taken
        if jobs:
            self._commit_jobs(jobs)
        return taken

    def _commit_jobs(self, jobs: Sequence[_Job]) -> None:
        try:
            results = self._commit([append for append, _ in jobs])
        except BaseException as error:
            self._failed = time.monotonic(), str(error)
            for _, future in jobs:
                future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        self._failed = None
        for (_, future), result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._tell(results)

    def fail_waiting(self, error: Exception) -> None:
        """Give this error to all who wait: there is nobody left to commit for them."""
        while self._waiting:
            _, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def has_waiting(self) -> bool:
        """Does anybody wait for a commit?"""
        return bool(self._waiting)

    def _take(self) -> tuple[list[_Job], int]:
        """Take a group off the queue; gives those who still want it, and how many were taken."""
        jobs: list[_Job] = []
        events = taken = 0
        while self._waiting and events < MOST_EVENTS_A_COMMIT:
            append, future = self._waiting.popleft()
            taken += 1
            # Whoever gave up before this moment gets nothing written; from here on nobody can.
            if future.set_running_or_notify_cancel():
                events += len(append.events)
                jobs.append((append, future))
        return jobs, taken

    def _tell(self, results: Sequence[Appended | Exception]) -> None:
        heads = [result.head for result in results if isinstance(result, Appended)]
        for listener in self._listeners if heads else ():
            try:
                listener(heads[-1])
            except Exception:  # noqa: BLE001  (reported; see below)
                # The commit stands and its callers know: a listener must not make it look failed.
                _log.exception("a listener of the log failed", extra={"action": "log-listener"})


class EventLog:
    """The log of this server, for asynchronous code: blocking work goes through an `Offload`."""

    def __init__(self, recorder: LogRecorder, offload: Offload) -> None:
        self.recorder = recorder
        self._offload = offload
        self._group = recorder.group
        self._committing: asyncio.Task[None] | None = None

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener`` after each commit, in some thread; it must not block."""
        self._group.add_listener(listener)

    async def append(self, append: Append) -> Appended:
        """Append all or nothing; durable on return.

        Raises the library's IntegrityError (or StaleTracking) for a clash, TransientError when
        nothing was committed and trying again may help. When the waiting task is cancelled, the
        append may or may not be committed.
        """
        future = self._group.add(append)
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all(), name="group-commit")
        return await asyncio.wrap_future(future)

    async def append_events(self, events: Sequence[DomainEvent]) -> Appended:
        """Append this server's own events, all or nothing; see `append`."""
        return await self.append(Append([to_stored_event(event) for event in events]))

    async def _commit_all(self) -> None:
        try:
            while self._group.has_waiting():
                await self._offload(self._group.commit_waiting)
        except Exception as error:  # noqa: BLE001  (each waiting caller gets it)
            self._group.fail_waiting(error)

    async def close(self) -> None:
        """Return when every append that was asked for is answered; the recorder may close then."""
        while self._committing is not None and not self._committing.done():
            await asyncio.wait([self._committing])

    async def head(self) -> LogHead:
        """Read where the committed log ends."""
        return await self._offload(self.recorder.head)

    async def read(self, start: int, limit: int, stop: int | None = None) -> list[LogEntry]:
        """Read entries in commit order; see `LogRecorder.read`."""
        return await self._offload(partial(self.recorder.read, start, limit, stop))

    async def read_streams(self, originator_ids: Sequence[UUID]) -> dict[UUID, list[LogEntry]]:
        """Read whole streams; see `LogRecorder.read_streams`."""
        return await self._offload(partial(self.recorder.read_streams, originator_ids))

    async def read_with_earlier(self, streams: Sequence[UUID]) -> dict[UUID, list[LogEntry]]:
        """Read streams of messages with all that tell of those messages before."""
        read = self.recorder.read_streams
        return await self._offload(partial(read_with_earlier, read, list(streams)))

    async def read_keys(self, call_ids: Collection[UUID]) -> dict[UUID, WrappedKey]:
        """See `LogRecorder.read_keys`."""
        if not call_ids:
            return {}
        return await self._offload(partial(self.recorder.read_keys, list(call_ids)))

    async def read_topics(self, topics: Sequence[str], start: int, stop: int) -> list[LogEntry]:
        """Read the entries of some kinds; see `LogRecorder.read_topics`."""
        return await self._offload(partial(self.recorder.read_topics, topics, start, stop))

    async def root_at(self, position: int) -> bytes:
        """Give the Merkle root over the first ``position`` events."""
        return await self._offload(partial(self.recorder.root_at, position))

    async def tracked(self, origin: str) -> list[TrackedOrigin]:
        """Give what is tracked of this origin, the newest incarnation first."""
        return await self._offload(partial(self.recorder.tracked, origin))

    async def start_incarnation(self, incarnation: UUID) -> LogHead:
        """Go on under a new incarnation; durable on return."""
        return await self._offload(partial(self.recorder.start_incarnation, incarnation))

    async def locate_blobs(self, digests: Sequence[str]) -> dict[str, BlobLocation]:
        """Say where these blobs lie in packs; see `LogRecorder.locate_blobs`."""
        return await self._offload(partial(self.recorder.locate_blobs, digests))
