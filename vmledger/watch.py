"""The server's eye on its own limits: it says early what gets tight, and when it is over.

Every few seconds it looks at the disk and makes the log's reserve whole again, at how old the
oldest waiting and the oldest refused message are, and at open files and connections. An alarm is
one log line when it begins and one when it ends, and a metric in between.

Source: claims 5 and 10.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from ledger.clock import Clock
from ledger.configuration import Configuration
from ledger.errors import LedgerError
from ledger.offload import Offload
from ledger.storage.disk_room import DiskRoom
from ledger.storage.log_reserve import LogReserve
from projections.pending import PendingHome
from vmledger.connections import Doorkeeper

_LOG: Final = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 5.0
TIGHT: Final = 0.8
"""Share of a limit from which on it is worth an alarm."""
_OPEN_FILES: Final = Path("/proc/self/fd")


class Watch:
    """Looks around in one event loop until its task is cancelled."""

    def __init__(
        self,
        config: Configuration,
        *,
        room: DiskRoom,
        reserve: LogReserve | None,
        pending: Callable[[], Sequence[PendingHome]],
        doors: Mapping[str, Doorkeeper],
        clock: Clock,
        offload: Offload,
    ) -> None:
        self._config = config
        self._room = room
        self._reserve = reserve
        self._pending = pending
        self._doors = doors
        self._clock = clock
        self._offload = offload
        self.alarms: Mapping[str, str] = {}
        """What is tight now, by a stable word, and how tight it is."""

    async def run(self) -> None:
        """Look every few seconds, for ever: what is looked at may itself be in trouble."""
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  (the next look may tell more)
                _LOG.warning("action=watch-failed error=%s: %s", type(error).__name__, error)
            await self._clock.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Look once, and tell of what has changed."""
        self._tell(await self._offload(lambda: dict(self._find())))

    def _tell(self, found: Mapping[str, str]) -> None:
        before, self.alarms = self.alarms, found
        for alarm in found.keys() - before.keys():
            _LOG.warning("action=alarm alarm=%s detail=%s", alarm, found[alarm])
        for alarm in before.keys() - found.keys():
            _LOG.info("action=alarm-over alarm=%s", alarm)

    def _find(self) -> Iterator[tuple[str, str]]:
        yield from self._find_disk()
        yield from self._find_waiting()
        yield from self._find_crowds()

    def _find_disk(self) -> Iterator[tuple[str, str]]:
        free_bytes, limits = self._room.free_bytes(), self._config.limits
        reserve = self._reserve
        if reserve is not None:
            missing_bytes = reserve.size_bytes - reserve.held_bytes()
            # Only out of plenty: what it takes must not be what calls need.
            if free_bytes - missing_bytes >= limits.min_free_disk_bytes:
                reserve.fill()
            elif missing_bytes > 0:
                yield "disk-reserve", f"{missing_bytes} bytes of the log's reserve are used up"
        if not self._room.is_open_for_recordings():
            yield "disk-recordings", f"{free_bytes} bytes are free: no new recording is begun"
        if not self._room.is_open_for_bulk():
            yield "disk-batches", f"{free_bytes} bytes are free: batches of peers are turned away"

    def _find_waiting(self) -> Iterator[tuple[str, str]]:
        try:
            homes = self._pending()
        except LedgerError:
            return  # No read model can be asked now; the disk is looked at all the same.
        now, limits = self._clock.now(), self._config.replication
        for home in homes:
            if home.oldest_age_s(now) > limits.alarm_pending_age_s:
                detail = f"{home.count} messages, the oldest for {home.oldest_age_s(now):.0f} s"
                yield f"pending-{home.home}", detail
            if home.held_count and home.held_age_s(now) > limits.alarm_held_age_s:
                detail = f"{home.held_count} refused, the oldest {home.held_age_s(now):.0f} s ago"
                yield f"held-{home.home}", detail

    def _find_crowds(self) -> Iterator[tuple[str, str]]:
        for name, door in self._doors.items():
            if len(door.guests) > TIGHT * door.limits.most:
                yield f"connections-{name}", f"{len(door.guests)} of {door.limits.most}"
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if _OPEN_FILES.is_dir():
            count = sum(1 for _ in _OPEN_FILES.iterdir())
            if count > TIGHT * most:
                yield "open-files", f"{count} of {most}"


async def stop_watch(task: asyncio.Task[None]) -> None:
    """End the task of a watch."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
