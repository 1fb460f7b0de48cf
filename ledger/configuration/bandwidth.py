"""How many bytes a second may be sent to a server, by the hour of the day.

Source: claims 6 and 13.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, tzinfo
from typing import Final

import msgspec

from ledger.errors import CallerError

LEAST_BYTES_PER_S: Final = 1024
"""A smaller limit would keep messages for hours, and nobody means that."""
_WINDOW: Final = re.compile(r"([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2}) +([0-9]{1,15})")


class Hours(msgspec.Struct, frozen=True):
    """A part of each day with a limit of its own; over midnight when it ends before it begins."""

    begin: time
    end: time
    """The first moment that no longer belongs to it."""
    bytes_per_s: int

    def hold_at(self, moment: time) -> bool:
        """Is this moment of a day in it?"""
        if self.begin < self.end:
            return self.begin <= moment < self.end
        return moment >= self.begin or moment < self.end


class BandwidthPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The limit at every hour."""

    bytes_per_s: int | None = None
    """At all other hours; None: no limit."""
    hours: tuple[Hours, ...] = ()
    """The first one that fits counts."""
    zone: tzinfo = UTC
    """Whose hours these are."""

    def limit_at(self, moment: datetime) -> int | None:
        """Give the limit at an aware moment; None when there is none."""
        local = moment.astimezone(self.zone).time()
        found = (hours.bytes_per_s for hours in self.hours if hours.hold_at(local))
        return next(found, self.bytes_per_s)


UNLIMITED: Final = BandwidthPlan()


def parse_hours(text: str) -> Hours:
    """Read ``HH:MM-HH:MM BYTES``; raises CallerError for anything else."""
    found = _WINDOW.fullmatch(text.strip())
    try:
        begin, end = (time.fromisoformat(found[n]) if found else None for n in (1, 2))
    except ValueError:
        begin = end = None
    if found is None or begin is None or end is None:
        raise CallerError(f"{text!r} is not hours and a limit; write it like '08:00-18:00 65536'")
    if begin == end:
        raise CallerError(f"{text!r} begins when it ends; leave it out, or name two moments")
    bytes_per_s = int(found[3])
    if bytes_per_s < LEAST_BYTES_PER_S:
        raise CallerError(
            f"{text!r} allows less than {LEAST_BYTES_PER_S} bytes a second; allow at least that"
        )
    return Hours(begin, end, bytes_per_s)
