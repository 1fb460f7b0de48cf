"""How far of each origin's log a verified backup of this home covers: what receipts call *safe*.

A backup covers this log up to one of its positions. Everything of an origin that was taken in by
then is covered too. What this server noted since it started is enough to say so; what it cannot
know (after a restart, until the next backup) it states as 0, which only makes origins keep their
copies longer.

Source: claim 7.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, TypeAlias
from uuid import UUID

from ledger.events import ServerId

Origin: TypeAlias = tuple[ServerId, UUID]
"""A server and the incarnation of its log."""

_MOST_NOTES: Final = 1000


class SafePositions:
    """Translates positions of backups into positions of origins' logs."""

    def __init__(self) -> None:
        self._notes: defaultdict[Origin, list[tuple[int, int]]] = defaultdict(list)
        self._safe: dict[Origin, int] = {}
        self._backup = 0

    def note(self, origin: Origin, home_position: int, origin_position: int) -> None:
        """By this position of our log, the origin's log was taken in up to that one."""
        notes = self._notes[origin]
        notes.append((home_position, origin_position))
        if len(notes) > _MOST_NOTES:
            # Every other note is enough: forgetting one can only understate what is safe.
            del notes[1::2]

    def knows(self, origin: Origin) -> bool:
        """Was anything noted of this origin yet?"""
        return origin in self._notes

    def backup_verified(self, position: int) -> None:
        """Our log is covered up to here."""
        self._backup = max(self._backup, position)

    def of(self, origin: Origin) -> int:
        """Give the origin's position up to which it is safe here; 0 when unknown."""
        notes = self._notes[origin]
        covered = [there for here, there in notes if here <= self._backup]
        self._safe[origin] = max(self._safe.get(origin, 0), *covered, 0)
        if covered:
            self._notes[origin] = [note for note in notes if note[0] > self._backup]
        return self._safe[origin]
