"""Which builds there should be: made, set aside, swapped in and dropped here.

The serving build answers questions until its successor has caught up with the log; then one
transaction makes the successor serve, and the old tables are dropped. So a changed version, a
rebuild on request and a log that went back in time are all the same thing: a second build.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from ledger.errors import NotFoundError
from ledger.storage.event_log import LogHead
from projections.builds import (
    Build,
    BuildState,
    create_build,
    drop_build,
    list_builds,
    lock_build,
    save_build,
)
from projections.projection import Projection
from projections.reader import LogReader
from projections.store import ProjectionStore

_LOG: Final = logging.getLogger(__name__)


class Lifecycle:
    """Keeps the registry in step with the program's projections and with the log."""

    def __init__(
        self,
        store: ProjectionStore,
        reader: LogReader,
        projections: Sequence[Projection],
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._reader = reader
        self._projections: Mapping[str, Projection] = {p.name: p for p in projections}
        self._now = now

    def prepare(self) -> None:
        """Make the registry fit this program and this log; idempotent.

        Builds that stopped at an event are tried again: this program may be able to fold it.
        """
        head = self._reader.head()
        for projection in self._projections.values():
            builds = self._store.builds(projection.name)
            tells_truth = {build.prefix: self._is_of_this_log(build, head) for build in builds}
            self._settle(projection, tells_truth)

    def _is_of_this_log(self, build: Build, head: LogHead) -> bool:
        if build.position > head.position:
            return False
        return build.position == 0 or self._reader.root_at(build.position).hex() == build.root

    def _settle(self, projection: Projection, is_of_this_log: Mapping[str, bool]) -> None:
        """Keep what can go on, drop what cannot, and start what is missing."""
        with self._store.writing() as connection:
            self._store.lock_tables(connection)
            keepers: list[Build] = []
            for build in list_builds(connection, projection.name):
                is_current = build.version == projection.version
                is_frozen = build.state is BuildState.FROZEN
                if is_current and not is_frozen and is_of_this_log.get(build.prefix, True):
                    save_build(connection, _resumed(build))
                    keepers.append(build)
                elif build.is_serving and self._can_serve(projection, build):
                    save_build(connection, msgspec.structs.replace(build, state=BuildState.FROZEN))
                else:
                    drop_build(connection, build)
            if not keepers:
                others = list_builds(connection, projection.name)
                is_serving = not any(build.is_serving for build in others)
                create_build(connection, projection, is_serving=is_serving, now=self._now())
            elif not any(build.is_serving for build in list_builds(connection, projection.name)):
                oldest = lock_build(connection, keepers[0].prefix) or keepers[0]
                save_build(connection, msgspec.structs.replace(oldest, is_serving=True))

    def _can_serve(self, projection: Projection, build: Build) -> bool:
        return build.version in (projection.version, *projection.readable_versions)

    def replace_those_ahead_of(self, head: LogHead, builds: Sequence[Build]) -> None:
        """Start anew where the log ends before a build does: it was restored under us."""
        for build in builds:
            is_ahead = build.position > head.position and build.state is not BuildState.FROZEN
            if is_ahead and build.name in self._projections:
                _LOG.warning(
                    "action=projection-ahead-of-log projection=%s position=%d log_position=%d",
                    build.name,
                    build.position,
                    head.position,
                )
                self._settle(self._projections[build.name], {build.prefix: False})

    def rebuild(self, name: str) -> Build:
        """Start to build a projection anew beside the one that serves; gives the new build.

        One that is already being built is given back instead. Raises NotFoundError for a name that
        is none.
        """
        projection = self._projections.get(name)
        if projection is None:
            known = ", ".join(sorted(self._projections))
            raise NotFoundError(f"there is no projection {name!r}; there are: {known}")
        with self._store.writing() as connection:
            self._store.lock_tables(connection)
            for build in list_builds(connection, name):
                if build.is_serving:
                    continue
                if build.state is BuildState.RUNNING:
                    return build
                drop_build(connection, build)
            return create_build(connection, projection, is_serving=False, now=self._now())

    def swap_in(self, builds: Sequence[Build], head: LogHead) -> None:
        """Let every build that has caught up with the log take the place of the serving one."""
        for build in builds:
            has_caught_up = build.state is BuildState.RUNNING and build.position >= head.position
            if not build.is_serving and has_caught_up:
                self._swap(build)

    def _swap(self, successor: Build) -> None:
        with self._store.writing() as connection:
            self._store.lock_tables(connection)
            current = lock_build(connection, successor.prefix)
            if current is None or current.is_serving:
                return
            others = list_builds(connection, successor.name)
            for old in (build for build in others if build.is_serving):
                if old.state is not BuildState.FROZEN and old.position > current.position:
                    return  # another process took the serving one further: the next cycle will do
                # A question that has just chosen these tables asks again: ProjectionStore.ask.
                drop_build(connection, old)
            save_build(connection, msgspec.structs.replace(current, is_serving=True))
        _LOG.info(
            "action=projection-swapped-in projection=%s version=%d tables=%s position=%d",
            successor.name,
            successor.version,
            successor.prefix,
            current.position,
        )


def _resumed(build: Build) -> Build:
    return msgspec.structs.replace(
        build,
        state=BuildState.RUNNING,
        stopped_topic=None,
        stopped_position=None,
        stopped_error=None,
    )
