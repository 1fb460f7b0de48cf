"""A projection as data: its name, its version, its tables, and one rule for each kind of event.

A rule says which records its fold will look at, so that the runner can fetch those of a whole page
at once, and which ones it creates, so that nobody looks for what cannot be there yet.

What belongs to a read model is named here; how it is stored, paged and rebuilt is the runner's
business.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

import ledger.events
from ledger.errors import CorruptionError, LedgerError
from ledger.events import DomainEvent, Event, OpaqueEvent
from ledger.storage.event_log import LogEntry
from projections.records import RecordTable, State

Fold = Callable[[State, Any, int], None]
"""Takes the state, an event and its position in this server's log, and changes the state."""

KeyOf = Callable[[Any], Any]
"""Gives the key of a record that an event concerns."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a projection does with one kind of event."""

    fold: Fold
    reads: Sequence[tuple[RecordTable[Any], KeyOf]] = ()
    """Records that exist already and will be looked at."""
    creates: Sequence[tuple[RecordTable[Any], KeyOf]] = ()
    """Records that cannot exist before this event: a first event of a stream, a fresh id."""


@dataclass(frozen=True, eq=False, slots=True)
class Projection:
    """One read model."""

    name: str
    version: int
    """Raise it whenever a table or a fold changes: the new form is then built beside the old."""
    tables: Sequence[RecordTable[Any]]
    rules: Mapping[type[Event], Rule]
    readable_versions: frozenset[int] = frozenset()
    """Older versions whose tables the questions of this program can still read: those serve while
    this one is built. Otherwise questions see the new one from its first event on."""
    topics: frozenset[str] = field(init=False)
    """The topics that it has rules for."""

    def __post_init__(self) -> None:
        topics = frozenset(str(kind.__struct_config__.tag) for kind in self.rules)
        object.__setattr__(self, "topics", topics)


@dataclass(frozen=True, slots=True)
class UnreadableEvent:
    """An entry of the log whose bytes are not the event that they claim to be."""

    error: LedgerError


class LoggedEvent(msgspec.Struct, frozen=True, gc=False):
    """One entry of the log, decoded.

    Without ``gc``: it cannot be part of a cycle, and collecting pages of them cost a fifth of a
    rebuild.
    """

    position: int
    topic: str
    """Empty when the entry could not even be read: it may concern anybody."""
    event: Any
    """A DomainEvent, an OpaqueEvent, or an UnreadableEvent."""


def decode_entries(entries: Sequence[LogEntry]) -> list[LoggedEvent]:
    """Decode a page. An unreadable event becomes part of it: only who needs it stumbles."""
    return [LoggedEvent(entry.position, entry.topic, _decode(entry)) for entry in entries]


def _decode(entry: LogEntry) -> DomainEvent | OpaqueEvent | UnreadableEvent:
    try:
        return ledger.events.decode(entry.plain)
    except CorruptionError:
        return _unreadable(entry)


def _unreadable(entry: LogEntry) -> UnreadableEvent | DomainEvent | OpaqueEvent:
    # Decoded again only to have the place in the message: naming it for every event is slow.
    try:
        return ledger.events.decode(entry.plain, place=f"position {entry.position}")
    except CorruptionError as error:
        return UnreadableEvent(error)


def fold_events(projection: Projection, state: State, page: Sequence[LoggedEvent]) -> None:
    """Fold a page in the log's order. Raises what a rule raises, or why an event is unreadable."""
    rules = projection.rules
    for logged in page:
        event = logged.event
        rule = rules.get(type(event))
        if rule is not None:
            rule.fold(state, event, logged.position)
        elif isinstance(event, UnreadableEvent) and _concerns(projection, logged):
            raise event.error


def _concerns(projection: Projection, logged: LoggedEvent) -> bool:
    return not logged.topic or logged.topic in projection.topics
