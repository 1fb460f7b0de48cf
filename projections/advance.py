"""One step of one build: fold a page of the log into its tables, and its position with them.

Rows and position are committed in one transaction, so a build is always exactly what the log told
up to its position. An event that cannot be folded is found by halving the page; everything before
it is kept, and the build stops there with a report. Trouble of the database itself is not an
event's fault: it is raised, nothing is changed, and the runner tries again.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from ledger.events import OpaqueEvent
from projections.builds import Build, BuildState, build_tables, lock_build, save_build
from projections.page_state import PageState
from projections.projection import LoggedEvent, Projection, fold_events
from projections.store import ProjectionStore, is_passing_trouble

_LOG: Final = logging.getLogger(__name__)

RootAt = Callable[[int], bytes]
"""Gives the log's Merkle root over that many events."""


class Advance:
    """Folds pages into builds. Holds nothing between pages."""

    def __init__(
        self, store: ProjectionStore, root_at: RootAt, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._root_at = root_at
        self._now = now

    def take(self, projection: Projection, build: Build, page: Sequence[LoggedEvent]) -> None:
        """Fold a page, whole or up to the event that stops the build. The page is not empty."""
        try:
            self._apply(projection, build, page)
        except Exception as error:
            if is_passing_trouble(error):
                raise
            if len(page) == 1:
                self._stop(build, page[0], error)
                return
            middle = len(page) // 2
            self.take(projection, build, page[:middle])
            self.take(projection, build, page[middle:])

    def _apply(self, projection: Projection, build: Build, page: Sequence[LoggedEvent]) -> None:
        root = self._root_at(page[-1].position).hex()
        with self._store.writing() as connection:
            current = lock_build(connection, build.prefix)
            if current is None or current.state is not BuildState.RUNNING:
                return  # replaced or stopped since the page was read
            # Another process of this server may have folded part of it meanwhile.
            news = [logged for logged in page if logged.position > current.position]
            if not news or news[0].position != current.position + 1:
                return
            tables = build_tables(projection, build.prefix)
            state = PageState(connection, projection, tables, self._store.this_server)
            state.prefetch(news)
            fold_events(projection, state, news)
            state.flush()
            advanced = msgspec.structs.replace(
                current,
                position=news[-1].position,
                root=root,
                opaque_count=current.opaque_count + _opaque(news),
                updated_at=self._now(),
            )
            # A crash before the commit leaves the build where it was; after it, this page is done.
            save_build(connection, advanced)

    def _stop(self, build: Build, culprit: LoggedEvent, error: Exception) -> None:
        """Leave the build before the event, with a report that an operator will see."""
        reason = f"{type(error).__name__}: {error}"
        _LOG.error(
            "action=projection-stopped projection=%s version=%d position=%d topic=%s error=%s",
            build.name,
            build.version,
            culprit.position,
            culprit.topic,
            reason,
        )
        with self._store.writing() as connection:
            current = lock_build(connection, build.prefix)
            if current is None or current.position != culprit.position - 1:
                return
            stopped = msgspec.structs.replace(
                current,
                state=BuildState.STOPPED,
                stopped_topic=culprit.topic,
                stopped_position=culprit.position,
                stopped_error=reason,
                updated_at=self._now(),
            )
            save_build(connection, stopped)


def _opaque(page: Sequence[LoggedEvent]) -> int:
    return sum(1 for logged in page if type(logged.event) is OpaqueEvent)
