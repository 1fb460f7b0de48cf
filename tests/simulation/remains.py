"""What a run left, in the world of the simulation or on the disks of real servers.

The checkers look at nothing else: what the outside was promised, and what stands in the logs and
among the recordings of each machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from ledger.events import CallErased, OpaqueEvent
from ledger.ids import message_stream_id
from ledger.mailbox import mailbox_of
from ledger.storage.event_log import LogEntry
from tests.simulation.logs import LogView, event_of
from tests.simulation.promises import Done, Told


class Remains:
    """The machines of a run, and what was promised in it."""

    replays_mailboxes = True
    """Shall all mailboxes be replayed? That takes its time."""

    def __init__(self) -> None:
        self.machines: dict[str, Any] = {}
        """By server: its log, its recordings, its identity."""
        self.left: dict[str, Any] = {}
        """Servers that were taken out of the configuration, and switched off."""
        self.histories: dict[str, list[Any]] = {}
        """Logs that a server ever had: its present one, its clones' and those it lost."""
        self.layouts_used: list[Any] = []
        """Who was home to which extension, by each configuration that was in use."""
        self.told = Told()
        self._views: dict[str, LogView] = {}

    @property
    def all_machines(self) -> dict[str, Any]:
        """Give also those that left."""
        return self.machines | self.left

    def logs_of(self, name: str) -> list[Any]:
        """Give every log that a server ever had."""
        return self.histories.get(name) or [self.all_machines[name].image]

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
        if any(self.unknown_actions()) or self.untold_erasures():
            return False
        if any(self.follows_by_itself(v, m) for v in views.values() for m in v.refused):
            return False
        arrived = {call for n in self.all_machines for call in self.view(n).delivered_calls}
        held = {call for view in views.values() for call in view.held_calls()}
        wanted = self.told.accepted.keys() - self.told.lost_with_its_disk - self.told.erased
        return wanted <= arrived | held

    def follows_by_itself(self, view: LogView, message_id: UUID) -> bool:
        """Was a message refused where its mailbox is not any more, and needs no operator?"""
        if view.refused[message_id].reason != "not-my-mailbox":
            return False
        extension = view.stored[message_id].mailbox.partition("@")[0]
        return not self.is_moved_by_file(extension)

    def untold_erasures(self) -> list[tuple[str, UUID]]:
        """Give the calls whose key is destroyed somewhere, with who was to be told and was not.

        Where a message of it waits that is not erased, the key is kept, and shown to be.
        """
        known = {name: self._erasures_at(name) for name in self.machines}
        told = {
            (name, event.call_id)
            for events in known.values()
            for event in events.values()
            for name in event.told_to
            if name in self.machines and event.recorded_by in self.machines
        }
        return sorted(
            (name, call)
            for name, call in told
            if call not in known[name] and not self._has_care_of(name, call)
        )

    def _erasures_at(self, name: str) -> dict[UUID, CallErased]:
        image = self.machines[name].image
        found = (event_of(e) for e in image.entries if e.topic == "call-erased")
        return {event.call_id: event for event in found if isinstance(event, CallErased)}

    def _has_care_of(self, name: str, call_id: UUID) -> bool:
        view = self.view(name)
        at_home = {event.call_id for _, event in view.delivered}
        held = {*view.held_calls(), *(view.stored[m].originator_id for m in view.waiting())}
        return call_id in at_home | held

    def unknown_actions(self) -> Iterator[str]:
        """What a user was told is recorded, and the message's home has not heard of."""
        for name, done in self.untold_actions():
            yield f"{name} does not know what {done.by} did to message {done.message_id}"

    def untold_actions(self) -> Iterator[tuple[str, Done]]:
        """Give each of them, with the home that has not heard of it."""
        for done in self.told.actions:
            if self.told.went_back(done.server, done.at_s):
                continue
            if done.server in self.left and self.told.restored:
                continue  # a log that went back took a message to wait still that was there
            if self.told.restored and any(one == done.extension for one, _ in self.told.moves):
                continue  # a log that went back may tell it otherwise than another: a conflict
            streams = [
                done.call_id,
                *(message_stream_id(done.message_id, home) for home in self.all_machines),
            ]
            for name, machine in self.machines.items():
                if all(e.message_id != done.message_id for _, e in self.view(name).delivered):
                    continue
                entries = [e for one in streams for e in machine.image.streams.get(one, ())]
                if not any(done.by.encode() in entry.plain for entry in entries):
                    yield name, done

    def unknown_profiles(self) -> list[str]:
        """What some server has not heard of greetings and PINs.

        What somebody tells of who went back or left is not expected to be known, nor what is told
        of mailboxes that the configuration moved, or with sound in which a bit flipped.
        """
        known = {name: self.view(name).profile_events for name in self.machines}
        every: dict[bytes, LogEntry] = {}
        for events in known.values():
            every |= events
        told = {plain for plain, entry in every.items() if self._is_to_be_known(entry)}
        lacking = ((name, len(told - events.keys())) for name, events in known.items())
        return [f"{name} lacks {count}" for name, count in lacking if count]

    def _is_to_be_known(self, entry: LogEntry) -> bool:
        event = event_of(entry)
        assert not isinstance(event, OpaqueEvent)
        is_there = event.recorded_by in self.machines
        if not is_there or self.told.went_back(event.recorded_by):
            return False
        return not self.is_profile_in_doubt(mailbox_of(event) or "", entry.originator_id)

    def is_profile_in_doubt(self, mailbox: str, stream: UUID | None = None) -> bool:
        """Did the configuration move this mailbox, or a bit flip in what its stream names?"""
        extension = mailbox.partition("@")[0]
        is_rotten = any(stream == rotten for _, rotten in self.told.rotted)
        return is_rotten or self.is_moved_by_file(extension)

    def is_moved_by_file(self, extension: str) -> bool:
        """Did the configuration name different homes of an extension?"""
        return len({layout.home_of(extension) for layout in self.layouts_used}) > 1

    def homes_in_doubt(self) -> list[str]:
        """Mailboxes of which two servers know different homes."""
        views = [self.view(name).homes for name in self.machines]
        names = sorted(set().union(*views) - self.words_lost())
        return [name for name in names if len({view.get(name) for view in views}) > 1]

    def words_lost(self) -> set[str]:
        """Mailboxes whose last move stands in no log any more of those who recorded it.

        They went back to before it: what others heard of it they cannot hear again. Its new home is
        one of them as soon as it knows.
        """
        views = [self.view(name) for name in self.machines]
        newest: dict[str, tuple[int, str]] = {}
        for view in views:
            for mailbox, claim in view.homes.items():
                newest[mailbox] = max(claim, newest.get(mailbox, claim))
        told = [view.told_homes for view in views]
        lost = {m for m, claim in newest.items() if all(claim != own.get(m) for own in told)}
        return {mailbox for mailbox in lost if not self._knows(newest[mailbox], mailbox)}

    def _knows(self, claim: tuple[int, str], mailbox: str) -> bool:
        """Does the home that is named here know it?"""
        name = claim[1]
        return name in self.machines and self.view(name).homes.get(mailbox) == claim

    def left_behind(self) -> list[tuple[str, UUID]]:
        """Messages of re-homed mailboxes that are at home at another server than their mailbox."""
        found = []
        lost = self.words_lost()
        for name in self.machines:
            view = self.view(name)
            for _, event in view.delivered:
                home = view.homes.get(event.mailbox)
                is_elsewhere = home is not None and home[1] in self.machines and home[1] != name
                if event.mailbox in lost or event.call_id in self.told.erased:
                    continue
                if is_elsewhere and event.message_id not in view.refused:
                    found.append((name, event.message_id))
        return found

    def lost_at_home(self, view: LogView) -> list[UUID]:
        """Messages that a server has receipts for and that are not at their homes."""
        there = {name: self.view(name).ever_delivered for name in self.all_machines}
        return [
            message_id
            for message_id, receipts in view.migrated.items()
            if message_id not in there[receipts[-1].home]
            and message_id not in view.refused
            and view.stored[message_id].originator_id not in self.told.erased
        ]

    def view(self, name: str) -> LogView:
        """Give what a machine's log says now."""
        image = self.all_machines[name].image
        view = self._views.get(name)
        if view is None or view.image is not image:
            view = self._views[name] = LogView(image)
        view.advance()
        return view
