"""The runner: one thread that reads the log in pages and keeps all projections of a server.

It is woken when events are committed and looks by itself every second as well, so a lost wake-up
costs a moment and never an event: positions have no gap and are the order of commit. All builds at
the same position share one read; each commits by itself, so one that stops holds up none of the
others. Nothing but tables comes out of it: a rebuild has no side effects.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from uuid import UUID

import msgspec

from ledger.clock import Clock
from ledger.errors import CorruptionError
from ledger.storage.event_log import LogHead
from projections.advance import Advance
from projections.builds import Build, BuildState
from projections.lifecycle import Lifecycle
from projections.projection import LoggedEvent, Projection, UnreadableEvent, decode_entries
from projections.reader import LogReader
from projections.store import ProjectionStore

_LOG: Final = logging.getLogger(__name__)

PAGE_EVENTS: Final = 2000
"""Events a page. More gains little; fewer let a long rebuild give way to questions sooner."""


class ProjectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one build of a projection stands."""

    name: str
    version: int
    number: int
    """1 for the first build of a version; rebuilds count on."""
    is_serving: bool
    """Does it answer questions? Otherwise it is being built."""
    state: BuildState
    position: int
    lag_events: int
    lag_s: float
    """Age of the oldest event that it has not seen; 0 when it has seen all."""
    opaque_count: int
    stopped_topic: str | None
    stopped_position: int | None
    stopped_error: str | None


def _always() -> bool:
    return True


class ProjectionRunner:
    """Runs the projections of one server."""

    def __init__(
        self,
        reader: LogReader,
        store: ProjectionStore,
        projections: Sequence[Projection],
        *,
        clock: Clock,
        page_events: int = PAGE_EVENTS,
        poll_interval_s: float = 1.0,
        gather_s: float = 0.1,
        may_build: Callable[[], bool] = _always,
    ) -> None:
        """``gather_s``: how long events gather before they are folded, unless somebody waits.

        While ``may_build`` says no, only the builds that serve go on: those beside them rest.
        """
        self._reader = reader
        self._store = store
        self._projections = {projection.name: projection for projection in projections}
        self._clock = clock
        self._page_events = page_events
        self._poll_interval_s = poll_interval_s
        self._gather_s = gather_s
        self._may_build = may_build
        self._hurry = threading.Event()
        """Set while somebody waits for a position."""
        self._waiting = 0
        self._lifecycle = Lifecycle(store, reader, projections, clock.now)
        self._prepared_for: UUID | None = None
        """The incarnation of the log that the registry was last held against."""
        self._cycle = threading.Lock()
        """Held during a cycle: `run_cycle` may be called beside the thread."""
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self._reached = threading.Condition()
        self._positions: dict[str, int] | None = None
        """How far the serving builds are (None before the first cycle); those that follow the log
        no more are left out."""

    # --- the thread -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        assert self._thread is None, "a runner is started once"
        self._thread = threading.Thread(target=self._run, name="projections", daemon=True)
        self._thread.start()

    def notify(self, position: int = 0) -> None:  # noqa: ARG002 - whatever a log tells its listeners
        """Say that the log has grown. A hint: it may be lost or come twice."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread after the page that it is at. Afterwards stores may be closed."""
        self._is_stopping = True
        self._wake.set()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join()
        with self._reached:
            self._reached.notify_all()

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.clear()
            if not self._try_cycle():
                self._wake.wait(self._poll_interval_s)
                # A page costs a transaction however few its events are, so let some gather: a
                # server that takes in a backlog folded a few at a time spent a third of its CPU.
                self._hurry.wait(self._gather_s)

    def _try_cycle(self) -> bool:
        try:
            return self.run_cycle()
        except Exception as error:  # noqa: BLE001 - the thread outlives a database that is away
            _LOG.warning(
                "action=projections-cycle-failed error=%s: %s", type(error).__name__, error
            )
            return False

    # --- one cycle ------------------------------------------------------------------------------

    def run_cycle(self) -> bool:
        """Take every build one page further; True when there is more to do.

        Raises what the databases raise; nothing is half done then.
        """
        with self._cycle:
            head = self._reader.head()
            if self._prepared_for != head.incarnation:
                self._lifecycle.prepare()
                self._prepared_for = head.incarnation
            self._lifecycle.replace_those_ahead_of(head, self._builds())
            may_build = self._may_build()
            self._advance(head, may_build)
            builds = self._builds()
            self._lifecycle.swap_in(builds, head)
            builds = self._builds()
            self._tell(builds)
            return bool(_behind(builds, head, may_build))

    def _builds(self) -> list[Build]:
        """Read the registry every time: another process may build and swap too."""
        return [build for build in self._store.builds() if build.name in self._projections]

    def _advance(self, head: LogHead, may_build: bool = True) -> None:
        def root_at(position: int) -> bytes:
            return head.root if position == head.position else self._reader.root_at(position)

        advance = Advance(self._store, root_at, self._clock.now)
        behind = _behind(self._builds(), head, may_build)
        for position in sorted({build.position for build in behind}, reverse=True):
            page = self._read_page(position + 1, head.position)
            for build in (build for build in behind if build.position == position):
                if page:
                    advance.take(self._projections[build.name], build, page)

    def _read_page(self, start: int, stop: int) -> list[LoggedEvent]:
        try:
            return decode_entries(self._reader.read(start, self._page_events, stop))
        except CorruptionError:
            return [self._read_one(start)]

    def _read_one(self, position: int) -> LoggedEvent:
        """Read a single entry of a damaged page: the damaged one stops who comes to it."""
        try:
            return decode_entries(self._reader.read(position, 1, position))[0]
        except CorruptionError as error:
            return LoggedEvent(position, "", UnreadableEvent(error))

    def _tell(self, builds: Sequence[Build]) -> None:
        with self._reached:
            self._positions = {
                build.name: build.position
                for build in builds
                if build.is_serving and build.state is BuildState.RUNNING
            }
            self._reached.notify_all()

    # --- for others -----------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Fold all that the log holds, in this thread: for tests, tools and rebuilds off line."""
        while self.run_cycle():
            pass

    def wait_for(self, position: int, timeout_s: float) -> bool:
        """Wait until every answer tells of the log up to there; False when time ran out.

        Projections that are stopped or serve an older log are not waited for: `status` shows them.
        """
        with self._reached, self._hurrying():
            return self._reached.wait_for(
                lambda: self._is_stopping or self._have_reached(position), timeout_s
            ) and self._have_reached(position)

    @contextmanager
    def _hurrying(self) -> Iterator[None]:
        """Let nothing gather while this lasts. Under the lock of ``_reached``."""
        self._waiting += 1
        self._hurry.set()
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting and not self._is_stopping:
                self._hurry.clear()

    def _have_reached(self, position: int) -> bool:
        if self._positions is None:
            return False
        return all(reached >= position for reached in self._positions.values())

    def rebuild(self, name: str) -> Build:
        """Build a projection anew beside the one that serves, which goes on until it is done.

        Returns at once. Raises NotFoundError for a name that is none.
        """
        build = self._lifecycle.rebuild(name)
        self.notify()
        return build

    def status(self) -> list[ProjectionStatus]:
        """Say how all builds stand, by name; those that serve come first."""
        head = self._reader.head()
        builds = sorted(self._builds(), key=lambda b: (b.name, not b.is_serving, b.number))
        return [self._status(build, head) for build in builds]

    def _status(self, build: Build, head: LogHead) -> ProjectionStatus:
        return ProjectionStatus(
            name=build.name,
            version=build.version,
            number=build.number,
            is_serving=build.is_serving,
            state=build.state,
            position=build.position,
            lag_events=max(0, head.position - build.position),
            lag_s=self._lag_s(build, head),
            opaque_count=build.opaque_count,
            stopped_topic=build.stopped_topic,
            stopped_position=build.stopped_position,
            stopped_error=build.stopped_error,
        )

    def _lag_s(self, build: Build, head: LogHead) -> float:
        if build.position >= head.position:
            return 0.0
        recorded_at = getattr(self._read_one(build.position + 1).event, "recorded_at", None)
        age_s = (self._clock.now() - recorded_at).total_seconds() if recorded_at else 0.0
        return max(0.0, age_s)


def _behind(builds: Sequence[Build], head: LogHead, may_build: bool) -> list[Build]:
    """Give the builds that can go further now."""
    return [
        build
        for build in builds
        if build.state is BuildState.RUNNING
        and build.position < head.position
        and (build.is_serving or may_build)
    ]
