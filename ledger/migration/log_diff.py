"""Hold what two servers took in from each other against each other's logs.

The peer gives the hashes of its log, a stretch at a time, with the positions of what it took in
from here; single events are looked at only where a hash is another one or lacks. Nothing is kept of
a stretch that agrees, but one bit an event: memory does not grow with what the servers share.

Source: claims 7 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Final

import msgspec

from ledger.errors import CorruptionError
from ledger.events import ServerId
from ledger.migration.link import PeerClient
from ledger.migration.log_stretches import acknowledged
from ledger.migration.wire import STRETCH_EVENTS, LogAnswer, TakenRow
from ledger.storage.arrivals import Arrival
from ledger.storage.event_log import LogEntry, LogRecorder
from ledger.storage.merkle import leaf_hash

_HASH_BYTES: Final = 32
_MOST: Final = 1000
"""Differences that are named; all are counted."""
_STORED: Final = "message-stored"


class DifferenceKind(Enum):
    """How two logs differ in one event."""

    DISAGREE = "disagree"
    """Both hold an event there, and not the same one."""
    MISSING_HERE = "missing-here"
    """The other server holds it, or has this server's receipt for it; this log lacks it."""
    MISSING_THERE = "missing-there"
    """This server holds it, or has the other's receipt for it; the other log lacks it."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One event on which two servers do not agree."""

    kind: DifferenceKind
    origin: ServerId
    """Whose event it is."""
    origin_position: int
    """Its position in that server's log."""
    taken_position: int | None
    """Where it stands in the log of the server that took it in; None when it is not there."""
    stream: str | None
    topic: str | None
    origin_hash: str | None
    """Leaf hash of what stands in its own server's log, hexadecimal."""
    taken_hash: str | None
    """Leaf hash of what stands in the other log; None also when its bytes cannot be read."""


class LogDiff(msgspec.Struct, kw_only=True):
    """What comparing two logs gave."""

    server: ServerId
    peer: ServerId
    position: int
    """This server's log was compared up to here."""
    peer_position: int
    """And the peer's up to here."""
    taken_here: int = 0
    """Events that this server took in from the peer, compared."""
    taken_there: int = 0
    """Events that the peer took in from this server, compared."""
    acknowledged: int = 0
    """Messages that one has the other's receipt for, looked for there."""
    count: int = 0
    """All differences."""
    differences: list[Difference] = msgspec.field(default_factory=list)
    """The first thousand of them."""

    @property
    def is_same(self) -> bool:
        """Do they agree on everything that they share?"""
        return not self.count

    def note(self, difference: Difference) -> None:
        """Count a difference, and name it if there are not too many."""
        self.count += 1
        if self.count <= _MOST:
            self.differences.append(difference)


class _Bits:
    """A set of positions: one bit each."""

    def __init__(self, most: int) -> None:
        self._bits = bytearray(most // 8 + 1)

    def add(self, position: int) -> None:
        if position // 8 < len(self._bits):
            self._bits[position // 8] |= 1 << (position % 8)

    def __contains__(self, position: int) -> bool:
        byte = self._bits[position // 8] if position // 8 < len(self._bits) else 0
        return bool(byte & (1 << (position % 8)))

    def __iter__(self) -> Iterator[int]:
        for index, byte in enumerate(self._bits):
            yield from (8 * index + bit for bit in range(8) if byte & (1 << bit))


async def compare_logs(
    client: PeerClient,
    recorder: LogRecorder,
    this_server: ServerId,
    arrivals: Callable[[], Iterable[Arrival]],
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> LogDiff:
    """Compare this server's log with a peer's, while both go on.

    ``arrivals`` reads this log's events of the peer, by their positions there. Raises what the
    client raises, and TransientError or CorruptionError when the own log cannot be read.
    """
    # In this order, so that who took something in is always read later than who gave it: first
    # where this log ends, then where the peer's does, then what came from there.
    comparison = _Comparison(recorder, this_server, client.peer)
    answer = await client.log(this_server, 0)
    comparison.begin(answer.position, arrivals())
    end, after = answer.position, comparison.take(answer)
    while answer.hashes and after < end:
        answer = await client.log(this_server, after, end)
        after = comparison.take(answer)
        on_progress(after, end)
    while comparison.has_more and answer.hashes:
        # What the peer recorded and this server took in since.
        answer = await client.log(this_server, after)
        after = comparison.take(msgspec.structs.replace(answer, acknowledged=()))
    return comparison.end()


class _Comparison:
    """What is remembered from one stretch of the peer's log to the next."""

    def __init__(self, recorder: LogRecorder, this_server: ServerId, peer: ServerId) -> None:
        self._recorder = recorder
        head = recorder.head().position
        self._seen_there = _Bits(head)
        """Positions of this log that the peer has taken in."""
        self.diff = LogDiff(server=this_server, peer=peer, position=head, peer_position=0)

    def begin(self, peer_position: int, arrivals: Iterable[Arrival]) -> None:
        """Learn where the peer's log ends, and what came from it."""
        self.diff.peer_position = peer_position
        self._seen_here = _Bits(peer_position)
        """Positions of the peer's log that this server has taken in."""
        self._owed_here = _Bits(peer_position)
        """Positions of the peer's log that it has this server's receipt for."""
        self._arrivals = iter(arrivals)
        self._next = next(self._arrivals, None)

    @property
    def has_more(self) -> bool:
        """Did something come from behind what was read of the peer's log?"""
        return self._next is not None

    def take(self, answer: LogAnswer) -> int:
        """Compare a stretch of the peer's log; gives where it ends."""
        for position in answer.acknowledged:
            self._owed_here.add(position)
        stop = answer.after_position + len(answer.hashes) // _HASH_BYTES
        while self._next is not None and self._next.origin_position <= stop:
            at = (self._next.origin_position - answer.after_position - 1) * _HASH_BYTES
            self._seen_here.add(self._next.origin_position)
            self._compare_here(self._next, answer.hashes[at : at + _HASH_BYTES])
            self._next = next(self._arrivals, None)
        for row in answer.taken:
            at = (row.position - answer.after_position - 1) * _HASH_BYTES
            self._compare_there(row, answer.hashes[at : at + _HASH_BYTES])
        return stop

    def _compare_here(self, arrival: Arrival, theirs: bytes) -> None:
        self.diff.taken_here += 1
        if arrival.digest == theirs:
            return
        self.diff.note(
            Difference(
                kind=DifferenceKind.DISAGREE if theirs else DifferenceKind.MISSING_THERE,
                origin=self.diff.peer,
                origin_position=arrival.origin_position,
                taken_position=arrival.position,
                stream=str(arrival.stream),
                topic=arrival.topic,
                origin_hash=theirs.hex() or None,
                taken_hash=arrival.digest.hex() or None,
            )
        )

    def _compare_there(self, row: TakenRow, theirs: bytes) -> None:
        self.diff.taken_there += 1
        self._seen_there.add(row.origin_position)
        ours = self._own(row.origin_position)
        digest = leaf_hash(ours.plain) if ours is not None else b""
        if digest == theirs:
            return
        is_missing = row.origin_position > self._recorder.head().position
        self.diff.note(
            Difference(
                kind=DifferenceKind.MISSING_HERE if is_missing else DifferenceKind.DISAGREE,
                origin=self.diff.server,
                origin_position=row.origin_position,
                taken_position=row.position,
                stream=str(row.stream),
                topic=ours.topic if ours is not None else None,
                origin_hash=digest.hex() or None,
                taken_hash=theirs.hex(),
            )
        )

    def _own(self, position: int) -> LogEntry | None:
        """Read an event of this log; None for one that is not there or cannot be read."""
        try:
            found: list[LogEntry] = self._recorder.read(position, 1)
        except CorruptionError:
            return None
        return found[0] if found else None

    def end(self) -> LogDiff:
        """Look for what receipts say must be there, and for what came from behind the end."""
        while self._next is not None:
            self._compare_here(self._next, b"")
            self._next = next(self._arrivals, None)
        here, there = DifferenceKind.MISSING_HERE, DifferenceKind.MISSING_THERE
        for position in self._owed_here:
            self.diff.acknowledged += 1
            if position not in self._seen_here:
                self.diff.note(_missing(here, self.diff.peer, position, None))
        for position in self._owed_there():
            self.diff.acknowledged += 1
            if position not in self._seen_there:
                self.diff.note(_missing(there, self.diff.server, position, self._own(position)))
        return self.diff

    def _owed_there(self) -> Iterator[int]:
        """Give the positions of this log that it has the peer's receipt for."""
        for start in range(1, self.diff.position + 1, STRETCH_EVENTS):
            stop = min(start + STRETCH_EVENTS - 1, self.diff.position)
            entries = self._recorder.read_topics(["message-migrated"], start, stop)
            yield from acknowledged(self._recorder, self.diff.peer, entries)


def _missing(
    kind: DifferenceKind, origin: ServerId, position: int, entry: LogEntry | None
) -> Difference:
    return Difference(
        kind=kind,
        origin=origin,
        origin_position=position,
        taken_position=None,
        stream=str(entry.originator_id) if entry is not None else None,
        topic=_STORED,
        origin_hash=leaf_hash(entry.plain).hex() if entry is not None else None,
        taken_hash=None,
    )
