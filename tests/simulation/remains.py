"""What a run left, in the world of the simulation or on the disks of real servers.

The checkers look at nothing else: what the outside was promised, and what stands in the logs and
among the recordings of each machine.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.simulation.logs import PROFILE_TOPICS, LogView
from tests.simulation.promises import Told


class Remains:
    """The machines of a run, and what was promised in it."""

    replays_mailboxes = True
    """Shall all mailboxes be replayed? That takes its time."""

    def __init__(self) -> None:
        self.machines: dict[str, Any] = {}
        """By server: its log, its recordings, its identity."""
        self.layouts_used: list[Any] = []
        """Who was home to which extension, by each configuration that was in use."""
        self.told = Told()
        self._views: dict[str, LogView] = {}

    def is_settled(self) -> bool:
        """Is nothing on its way any more?"""
        views = {name: self.view(name) for name in self.machines}
        if self.unknown_profiles():
            return False
        if any(machine.recordings_in_spool() for machine in self.machines.values()):
            return False
        if any(view.waiting() or self.lost_at_home(view) for view in views.values()):
            return False
        if self.told.moves and (self.homes_in_doubt() or self.left_behind()):
            return False
        arrived = {call for view in views.values() for call in view.delivered_calls}
        held = {call for view in views.values() for call in view.held_calls()}
        wanted = self.told.accepted.keys() - self.told.lost_with_its_disk
        return wanted <= arrived | held

    def unknown_profiles(self) -> list[str]:
        """What some server has not heard of greetings and PINs.

        Of logs that went back nothing is said, nor of mailboxes that the configuration moved.
        """
        if self.told.restored or self.told.rotted or len(self.layouts_used) > 1:
            return []
        known = {
            name: {e.plain for e in machine.image.entries if e.topic in PROFILE_TOPICS}
            for name, machine in self.machines.items()
        }
        every = set().union(*known.values())
        return [f"{name} lacks {len(every - has)}" for name, has in known.items() if every - has]

    def homes_in_doubt(self) -> list[str]:
        """Mailboxes of which two servers know different homes."""
        views = [self.view(name).homes for name in self.machines]
        names = sorted(set().union(*views) - self.words_lost())
        return [name for name in names if len({view.get(name) for view in views}) > 1]

    def words_lost(self) -> set[str]:
        """Mailboxes whose last move stands in no log any more of those who recorded it.

        They went back to before it: what others heard of it they cannot hear again.
        """
        views = [self.view(name) for name in self.machines]
        newest: dict[str, tuple[int, str]] = {}
        for view in views:
            for mailbox, claim in view.homes.items():
                newest[mailbox] = max(claim, newest.get(mailbox, claim))
        told = [view.told_homes for view in views]
        return {m for m, claim in newest.items() if all(claim != own.get(m) for own in told)}

    def left_behind(self) -> list[tuple[str, UUID]]:
        """Messages of re-homed mailboxes that are at home at another server than their mailbox."""
        found = []
        lost = self.words_lost()
        for name in self.machines:
            view = self.view(name)
            for _, event in view.delivered:
                home = view.homes.get(event.mailbox)
                is_elsewhere = home is not None and home[1] in self.machines and home[1] != name
                if event.mailbox in lost:
                    continue
                if is_elsewhere and event.message_id not in view.refused:
                    found.append((name, event.message_id))
        return found

    def lost_at_home(self, view: LogView) -> list[UUID]:
        """Messages that a server has receipts for and that are not at their homes."""
        there = {name: self.view(name).ever_delivered for name in self.machines}
        return [
            message_id
            for message_id, receipts in view.migrated.items()
            if message_id not in there[receipts[-1].home] and message_id not in view.refused
        ]

    def view(self, name: str) -> LogView:
        """Give what a machine's log says now."""
        image = self.machines[name].image
        view = self._views.get(name)
        if view is None or view.image is not image:
            view = self._views[name] = LogView(image)
        view.advance()
        return view
