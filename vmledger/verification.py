"""Verify a log: read all of it, and hold it against everything that it says of itself.

Checked: positions have no gap; every event decodes and is the one its row says; the versions of
every stream follow each other; each event's hash, each kept node of the tree, and the root in the
log's head are those of the events; every sealed call has its key, or the note that it was
destroyed; every receipt in it is signed by the home that it names, every
checkpoint by its log and its witness, and the root that this log had when others signed for it is
still the root at that position. So a change is found at its place; and even somebody who rewrote
events, hashes, nodes and head together would contradict what other servers signed.

The log is read in parts, by several processes when it is long. Safe beside a running server: the
head is read first, and the log only up to it.

Source: RFC 9162 section 2.1.1 (the tree); claims 7 and 8 (receipts).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from ledger.errors import CorruptionError, LedgerError, NotFoundError
from ledger.events import CallReceived, MessageMigrated, OpaqueEvent, Receipt, decode
from ledger.migration.receipts import verify_receipt
from ledger.storage.cosigned_checkpoints import CosignedCheckpoint
from ledger.storage.event_log import LogEntry, LogRecorder
from ledger.storage.merkle import Frontier, TreeNode, leaf_hash
from vmledger.verified_checkpoints import StatedRoot, check_checkpoints
from vmledger.witnessed import WitnessedUpTo

_PART: Final = 16_384
"""Events of a part: a whole number of tiles."""
_PAGE: Final = 2000
_MANY: Final = 4 * _PART
"""From this length on, other processes help: starting them takes a second."""
_MAX_FINDINGS: Final = 1000
"""A log that is wrong in more places than this is beyond a list."""

Progress = Callable[[int, int], None]
"""Called with what is done and what there is."""
Keys: TypeAlias = Mapping[str, bytes]
"""Public keys of servers, by their ids."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it was written."""

    place: str
    what: str


class LogVerification(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a log."""

    position: int
    """The log was checked up to here."""
    root: str
    """The Merkle root that the log's head states, hexadecimal."""
    streams: int
    opaque_events: int
    """Events of a newer version or unknown topic: kept, not understood."""
    receipts: int
    """Receipts whose signature was checked."""
    unchecked_receipts: int
    """Receipts of servers whose key is not known."""
    cosignatures: int
    """Co-signed checkpoints, of this log and of others', whose signatures were checked."""
    unchecked_cosignatures: int
    """Those of servers whose key is not known."""
    witnesses: list[WitnessedUpTo]
    """Up to where the log is what each other server co-signed."""
    findings: list[Finding]

    @property
    def is_intact(self) -> bool:
        """Is everything as it was written?"""
        return not self.findings


def verify_log(
    recorder: LogRecorder,
    on_progress: Progress = lambda _done, _all: None,
    *,
    server: str = "",
    keys: Keys | None = None,
    checkpoints: Sequence[CosignedCheckpoint] = (),
    faults: Sequence[tuple[str, str]] = (),
    url: str | None = None,
) -> LogVerification:
    """Verify a whole log. Raises only what keeps it from being read at all.

    ``server`` is whose log it is, and ``keys`` are those of the servers that receipts are checked
    with. ``checkpoints`` are all that the server keeps, read before this is called, ``faults``
    what `ledger.storage.row_check.check_rows` found in its database. With ``url`` a
    long log is read by one process a processor.
    """
    head = recorder.head()
    checked = check_checkpoints(checkpoints, server, keys or {})
    whole = _Whole(recorder, head.position, server)
    for place, what in (*faults, *checked.findings):
        whole.note(place, what)
    for one in checked.stated:
        whole.state_checkpoint(one)
    starts = range(1, head.position + 1, _PART)
    for start, part in zip(
        starts, _read_parts(recorder, starts, head.position, keys or {}, url), strict=True
    ):
        whole.take(start, part)
        on_progress(min(start + _PART - 1, head.position), head.position)
    whole.expect_end(head.root)
    whole.expect_roots_fit()
    return LogVerification(
        position=head.position,
        root=head.root.hex(),
        streams=len(whole.versions),
        opaque_events=whole.opaque_events,
        receipts=whole.receipts,
        unchecked_receipts=whole.unchecked_receipts,
        cosignatures=checked.signatures,
        unchecked_cosignatures=checked.unchecked,
        witnesses=[whole.witnesses[name] for name in sorted(whole.witnesses)],
        findings=whole.findings[:_MAX_FINDINGS],
    )


# --- A part: what can be judged without the others --------------------------------------------


@dataclass(slots=True)
class Part:
    """What reading a part of a log gave."""

    hashes: list[bytes] = field(default_factory=list)
    """Of its events, as they are; where one cannot be read, as its row says."""
    versions: dict[UUID, tuple[int, int]] = field(default_factory=dict)
    """First and last version of each stream in it."""
    findings: list[Finding] = field(default_factory=list)
    receipts: list[tuple[int, Receipt]] = field(default_factory=list)
    """Those that are signed rightly, and where they stand."""
    unchecked_receipts: int = 0
    opaque_events: int = 0
    sealed_calls: dict[UUID, int] = field(default_factory=dict)
    """Calls that nobody understands without their keys, and where they begin."""

    def note(self, place: str, what: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(place, what))


def _read_parts(
    recorder: LogRecorder, starts: Sequence[int], end: int, keys: Keys, url: str | None
) -> Iterator[Part]:
    if url is None or end < _MANY:
        yield from (verify_part(recorder, start, end, keys) for start in starts)
        return
    with ProcessPoolExecutor(os.cpu_count(), initializer=_open, initargs=(url,)) as pool:
        yield from pool.map(_verify_part_here, starts, [end] * len(starts), [keys] * len(starts))


_opened: list[LogRecorder] = []
"""The log as a helping process has it open."""


def _open(url: str) -> None:
    from ledger.storage.open_recorder import open_recorder  # noqa: PLC0415 - takes long to import

    _opened.append(open_recorder(url))


def _verify_part_here(start: int, end: int, keys: Keys) -> Part:
    return verify_part(_opened[0], start, end, keys)


def verify_part(recorder: LogRecorder, start: int, end: int, keys: Keys) -> Part:
    """Read the part of a log that begins at a position, and check what can be checked in it."""
    part = Part()
    stop = min(start + _PART - 1, end)
    position = start
    for entry in _entries(recorder, start, stop, part):
        if isinstance(entry, LogEntry):
            if entry.position != position:
                break
            _check_entry(entry, part, keys)
        else:
            part.hashes.extend(_kept_hashes(recorder, entry - 1, entry, part))
        position += 1
    if position <= stop:
        part.note(f"position {position}", f"is missing; the log's head says it reaches {end}")
    else:
        _compare_hashes(recorder, start, stop, part)
    _look_for_keys(recorder, part)
    return part


def _entries(recorder: LogRecorder, start: int, stop: int, part: Part) -> Iterator[LogEntry | int]:
    """Read on in pages; of an event that cannot be read, which is a finding, only the position."""
    while start <= stop:
        last = min(start + _PAGE - 1, stop)
        try:
            page: list[LogEntry] = recorder.read(start, _PAGE, stop)
        except CorruptionError:
            yield from _one_by_one(recorder, start, last, part)
        else:
            yield from page
        start = last + 1


def _one_by_one(
    recorder: LogRecorder, start: int, stop: int, part: Part
) -> Iterator[LogEntry | int]:
    for position in range(start, stop + 1):
        try:
            yield from recorder.read(position, 1, stop)
        except CorruptionError as error:
            part.note(f"position {position}", error.message)
            yield position


def _check_entry(entry: LogEntry, part: Part, keys: Keys) -> None:
    place = f"position {entry.position}"
    part.hashes.append(leaf_hash(entry.plain))
    _check_version(entry, part, place)
    try:
        event = decode(entry.plain, place)
    except CorruptionError as error:
        part.note(place, error.message)
        return
    said = (event.originator_id, event.originator_version, event.topic)
    if said != (entry.originator_id, entry.originator_version, entry.topic):
        part.note(place, "the row's stream, version or topic is not that of the event in it")
    if isinstance(event, OpaqueEvent):
        part.opaque_events += 1
    elif isinstance(event, MessageMigrated):
        _check_receipt(event.receipt, entry.position, part, keys)
    elif isinstance(event, CallReceived) and isinstance(event.personal, str):
        part.sealed_calls[event.originator_id] = entry.position


def _look_for_keys(recorder: LogRecorder, part: Part) -> None:
    """What is sealed has a key, or the note that it was destroyed; else it is damaged."""
    calls = list(part.sealed_calls)
    found = recorder.read_keys(calls) if calls else {}
    for call_id, position in part.sealed_calls.items():
        if call_id not in found:
            part.note(
                f"key of call {call_id}",
                f"is not here, nor a note that it was destroyed; position {position} is sealed "
                "with it",
            )


def _check_version(entry: LogEntry, part: Part, place: str) -> None:
    first, last = part.versions.get(entry.originator_id, (entry.originator_version, None))
    if last is not None and entry.originator_version != last + 1:
        part.note(place, _out_of_row(entry.originator_id, entry.originator_version, last))
    part.versions[entry.originator_id] = (first, entry.originator_version)


def _out_of_row(stream: UUID, version: int, last: int) -> str:
    return f"version {version} of stream {stream} follows version {last}"


def _check_receipt(receipt: Receipt, position: int, part: Part, keys: Keys) -> None:
    key = keys.get(receipt.home)
    if key is None:
        part.unchecked_receipts += 1
        return
    try:
        verify_receipt(receipt, key)
    except LedgerError as error:
        part.note(f"position {position}", f"its receipt is not genuine: {error.message}")
    else:
        part.receipts.append((position, receipt))


def _compare_hashes(recorder: LogRecorder, start: int, stop: int, part: Part) -> None:
    """Hold the hash beside each event against the event itself."""
    for first in range(start - 1, stop, _PAGE):
        kept = _kept_hashes(recorder, first, min(first + _PAGE, stop), part)
        for offset, digest in enumerate(kept, first):
            if digest != part.hashes[offset - start + 1]:
                part.note(
                    f"position {offset + 1}",
                    f"is not what was written: it hashes to {part.hashes[offset - start + 1].hex()}"
                    f", and {digest.hex()} is kept",
                )


def _kept_hashes(recorder: LogRecorder, first: int, stop: int, part: Part) -> Sequence[bytes]:
    """Give hashes as they are kept beside their events; one that is none is a finding."""
    try:
        return recorder.read_hashes(0, first, stop)
    except CorruptionError as error:
        if stop - first == 1:
            part.note(f"position {stop}", f"has no hash beside it: {error.message}")
            return [b""]
    return [_kept_hashes(recorder, at, at + 1, part)[0] for at in range(first, stop)]


# --- The whole: what the parts are to each other ----------------------------------------------


@dataclass(frozen=True, slots=True)
class _Statement:
    """A root that another server signed."""

    root: str
    place: str
    """Where it is kept."""
    what: str
    """What it is, and when it was signed."""


class _Whole:
    """What must be remembered from one part to the next."""

    def __init__(self, recorder: LogRecorder, end: int, server: str) -> None:
        self._recorder = recorder
        self._end = end
        self._server = server
        self._tree = Frontier()
        self._stated: dict[int, dict[str, _Statement]] = {}
        """Position → root that is stated for it → who states it, the first one."""
        self._checkpoints: dict[int, list[StatedRoot]] = {}
        """By size."""
        self.witnesses: dict[str, WitnessedUpTo] = {}
        self.findings: list[Finding] = []
        self.versions: dict[UUID, int] = {}
        self.opaque_events = self.receipts = self.unchecked_receipts = 0

    def note(self, place: str, what: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(place, what))

    def take(self, start: int, part: Part) -> None:
        """Join the next part."""
        self.findings += part.findings
        self.opaque_events += part.opaque_events
        self.receipts += len(part.receipts)
        self.unchecked_receipts += part.unchecked_receipts
        for stream, (first, last) in part.versions.items():
            before = self.versions.get(stream, 0)
            if first != before + 1:
                self.note(f"positions {start} on", _out_of_row(stream, first, before))
            self.versions[stream] = last
        for position, receipt in part.receipts:
            if receipt.origin == self._server:
                place, what = f"position {position}", f"the receipt at position {position}"
                self._state(receipt.origin_position, _Statement(receipt.origin_root, place, what))
        self._grow(part.hashes)

    def _grow(self, hashes: Sequence[bytes]) -> None:
        nodes: list[TreeNode] = []
        self._tree = self._tree.append(hashes, nodes.append)
        for node in nodes:
            first = (node.index << node.level) + 1
            last = (node.index + 1) << node.level
            if self._kept(node) != node.hash:
                self.note(
                    f"positions {first} to {last}",
                    "their common hash is not the one that is kept: an event of these was changed "
                    "together with its hash, or the kept one was",
                )

    def _kept(self, node: TreeNode) -> bytes | None:
        try:
            return self._recorder.read_hashes(node.level, node.index, node.index + 1)[0]
        except (CorruptionError, NotFoundError):
            return None

    def expect_end(self, root: bytes) -> None:
        """Hold what was read against the head."""
        if self._tree.size == self._end and self._tree.root() != root:
            self.note(
                "log head",
                f"the Merkle root over all events is {self._tree.root().hex()}, the head says "
                f"{root.hex()}: an event was changed after it was written, or the head was",
            )

    def state_checkpoint(self, stated: StatedRoot) -> None:
        """Remember a root that a witness signed."""
        checkpoint = stated.checkpoint
        what = f"the checkpoint of server {stated.witness}"
        statement = _Statement(checkpoint.root.hex(), stated.place, what)
        self._state(checkpoint.size, statement)
        self._checkpoints.setdefault(checkpoint.size, []).append(stated)

    def _state(self, position: int, statement: _Statement) -> None:
        self._stated.setdefault(position, {}).setdefault(statement.root, statement)

    def expect_roots_fit(self) -> None:
        """Hold the roots that others signed against those of the log as it is now."""
        if self._tree.size != self._end:
            return
        tree, agreed = Frontier(), 0
        for position in sorted(p for p in self._stated if p <= self._end):
            try:
                tree = self._advance(tree, position)
            except CorruptionError:
                return  # a kept hash is none: that is a finding already
            root = tree.root().hex()
            for stated in self._stated[position].values():
                if stated.root != root:
                    self.note(
                        f"positions {agreed + 1} to {position}",
                        f"are not what they were when {stated.what} was signed: "
                        f"it states the root {stated.root}, and it is {root}",
                    )
            agreed = position if root in self._stated[position] else agreed
            for one in self._checkpoints.get(position, ()):
                if one.checkpoint.root.hex() == root:
                    self.witnesses[one.witness] = WitnessedUpTo(
                        server=one.witness, position=position, at=one.at
                    )
        for position in sorted(p for p in self._stated if p > self._end):
            for stated in self._stated[position].values():
                self.note(
                    stated.place,
                    f"{stated.what} covers this log up to {position}, and it ends at {self._end}",
                )

    def _advance(self, tree: Frontier, position: int) -> Frontier:
        """Grow a tree up to a position by the hashes that are kept, which were compared before."""
        while tree.size < position:
            stop = min(tree.size + _PAGE, position)
            tree = tree.append(self._recorder.read_hashes(0, tree.size, stop))
        return tree
