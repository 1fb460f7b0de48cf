"""Which extensions does a claim such as ``2000-2999`` or ``30*`` cover, and which claim wins?

Three forms. *Exact*: that extension. *Range*: all numbers from the first to the last, written with
the same number of digits. *Prefix*: every extension that begins so, whatever its length.

The narrower claim wins: of all claims that cover an extension, the one that covers the fewest
numbers of that length. So an exact claim beats a range or prefix around it, a longer prefix beats a
shorter one, and ``2500-2599`` beats ``2*`` and ``2000-2999``. Where a range and a prefix cover the
same numbers (``3000-3099`` and ``30*``), the range wins: it speaks of that length alone.

Two claims *clash* when they share an extension and neither lies within the other there: then
neither is narrower, and a configuration in which two servers make such claims is refused.
Clashes are found exactly, by comparing intervals, not by trying extensions.

Source: claims 6 and 13.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import combinations
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from ledger.errors import CallerError

Value = TypeVar("Value")
Interval: TypeAlias = tuple[int, int]

_EXACT: Final = re.compile(r"[0-9A-Za-z_.+]+")
_RANGE: Final = re.compile(r"([0-9]+)-([0-9]+)")
_DIGITS: Final = re.compile(r"[0-9]+")
MAX_LENGTH: Final = 64
"""Longest extension in a claim. Real ones have at most 15 digits (E.164) or are short names."""


class PatternKind(IntEnum):
    """The form of a claim. The order breaks a tie: what speaks of one length comes first."""

    EXACT = 0
    RANGE = 1
    PREFIX = 2


class Pattern(msgspec.Struct, frozen=True):
    """A set of extensions."""

    kind: PatternKind
    first: str
    """The extension, the first of the range, or the prefix itself (may be empty)."""
    last: str
    """The last of a range; otherwise as ``first``."""

    def __str__(self) -> str:
        if self.kind is PatternKind.PREFIX:
            return f"{self.first}*"
        return self.first if self.kind is PatternKind.EXACT else f"{self.first}-{self.last}"

    def covers(self, extension: str) -> bool:
        """Is this extension in the set?"""
        if self.kind is PatternKind.EXACT:
            return extension == self.first
        if self.kind is PatternKind.PREFIX:
            return extension.startswith(self.first)
        is_number = len(extension) == len(self.first) and _DIGITS.fullmatch(extension) is not None
        return is_number and self.first <= extension <= self.last

    def interval(self, length: int) -> Interval | None:
        """Give the numbers of that many digits in the set (always a run), or None for none."""
        missing = length - len(self.first)
        if missing < 0 or (self.first and _DIGITS.fullmatch(self.first) is None):
            return None
        if self.kind is PatternKind.PREFIX:
            low = int(self.first or "0") * 10**missing
            return low, low + 10**missing - 1
        return (int(self.first), int(self.last)) if missing == 0 else None


def parse_pattern(text: str) -> Pattern:
    """Read a claim; raises CallerError that says what is wrong and how to write it."""
    if len(text) > 2 * MAX_LENGTH + 1:
        raise CallerError(f"a claim has at most {MAX_LENGTH} characters an extension; shorten it")
    if text.endswith("*") and (text == "*" or _EXACT.fullmatch(text[:-1])):
        return Pattern(PatternKind.PREFIX, text[:-1], text[:-1])
    if _EXACT.fullmatch(text):
        return Pattern(PatternKind.EXACT, text, text)
    ends = _RANGE.fullmatch(text)
    if ends is None:
        raise CallerError(
            f"{text!r} is not a claim on extensions; "
            'write one extension "4711", a range "2000-2999" or a prefix "30*"'
        )
    return _range(ends[1], ends[2])


def _range(first: str, last: str) -> Pattern:
    if len(first) != len(last):
        raise CallerError(
            f"the range {first}-{last} joins numbers of {len(first)} and {len(last)} digits; "
            "write one range for each number of digits"
        )
    if first > last:
        raise CallerError(f"the range {first}-{last} is empty; write it as {last}-{first}")
    return Pattern(PatternKind.RANGE, first, last)


def clash(one: Pattern, other: Pattern) -> str | None:
    """Give an extension that both cover with neither being narrower, or None."""
    if PatternKind.RANGE not in (one.kind, other.kind):
        # Prefixes and exact claims lie within one another or apart, unless they are the same.
        return one.first if one == other else None
    length = len(one.first if one.kind is PatternKind.RANGE else other.first)
    mine, theirs = one.interval(length), other.interval(length)
    if mine is None or theirs is None:
        return None
    low, high = max(mine[0], theirs[0]), min(mine[1], theirs[1])
    if low > high or _is_narrower_decided(one, other, mine, theirs):
        return None
    return str(low).zfill(length)


def _is_narrower_decided(one: Pattern, other: Pattern, mine: Interval, theirs: Interval) -> bool:
    """Does one of two overlapping claims lie within the other?"""
    if mine == theirs:
        return PatternKind.PREFIX in (one.kind, other.kind)
    is_within = theirs[0] <= mine[0] and mine[1] <= theirs[1]
    is_around = mine[0] <= theirs[0] and theirs[1] <= mine[1]
    return is_within or is_around


class Claim(msgspec.Struct, frozen=True):
    """A set of extensions within a context."""

    context: str
    pattern: Pattern

    def __str__(self) -> str:
        return str(self.pattern) if self.context == "default" else f"{self.pattern}@{self.context}"


def find_clashes(claims: Sequence[Claim]) -> Iterator[tuple[int, int, str]]:
    """Find all clashing pairs: their places in ``claims`` (lower first) and a shared extension."""
    by_context: dict[str, list[int]] = {}
    for index, claim in enumerate(claims):
        by_context.setdefault(claim.context, []).append(index)
    for indexes in by_context.values():
        for one, other in sorted(_candidates(claims, indexes)):
            shared = clash(claims[one].pattern, claims[other].pattern)
            if shared is not None:
                yield one, other, shared


def _candidates(claims: Sequence[Claim], indexes: Sequence[int]) -> set[tuple[int, int]]:
    """Pairs that may clash: equal ones, and overlapping ones at the length of some range."""
    pairs: set[tuple[int, int]] = set()
    equal: dict[Pattern, list[int]] = {}
    for index in indexes:
        equal.setdefault(claims[index].pattern, []).append(index)
    for same in equal.values():
        pairs.update(combinations(same, 2))
    patterns = [claims[index].pattern for index in indexes]
    for length in {len(p.first) for p in patterns if p.kind is PatternKind.RANGE}:
        runs = [(p.interval(length), i) for p, i in zip(patterns, indexes, strict=True)]
        pairs.update(_overlapping(sorted((run, i) for run, i in runs if run is not None)))
    return pairs


def _overlapping(runs: Sequence[tuple[Interval, int]]) -> Iterator[tuple[int, int]]:
    """Give the pairs of overlapping intervals; ``runs`` is sorted, so the search can stop early."""
    for place, ((_, high), one) in enumerate(runs):
        for (low, _), other in runs[place + 1 :]:
            if low > high:
                break
            yield min(one, other), max(one, other)


class PatternIndex(Generic[Value]):
    """Finds the value of the narrowest claim on an extension."""

    def __init__(self, entries: Sequence[tuple[Claim, Value]]) -> None:
        self._exact: dict[tuple[str, str], Value] = {}
        self._prefixes: dict[tuple[str, str], Value] = {}
        self._ranges: dict[tuple[str, int], list[tuple[Pattern, Value]]] = {}
        for claim, value in entries:
            self._add(claim.context, claim.pattern, value)
        self._prefix_lengths = sorted({len(p) for _, p in self._prefixes}, reverse=True)
        for ranges in self._ranges.values():
            ranges.sort(key=lambda entry: int(entry[0].last) - int(entry[0].first))

    def _add(self, context: str, pattern: Pattern, value: Value) -> None:
        if pattern.kind is PatternKind.EXACT:
            self._exact[context, pattern.first] = value
        elif pattern.kind is PatternKind.PREFIX:
            self._prefixes[context, pattern.first] = value
        else:
            self._ranges.setdefault((context, len(pattern.first)), []).append((pattern, value))

    def find(self, context: str, extension: str) -> Value | None:
        """Give the value of the narrowest claim that covers this extension, or None."""
        if (context, extension) in self._exact:
            return self._exact[context, extension]
        in_range = self._narrowest_range(context, extension)
        prefix = self._longest_prefix(context, extension)
        if in_range is None:
            return None if prefix is None else self._prefixes[context, prefix]
        pattern, value = in_range
        if prefix is not None:
            size = int(pattern.last) - int(pattern.first) + 1
            if 10 ** (len(extension) - len(prefix)) < size:
                return self._prefixes[context, prefix]
        return value

    def _narrowest_range(self, context: str, extension: str) -> tuple[Pattern, Value] | None:
        ranges = self._ranges.get((context, len(extension)), [])
        return next((entry for entry in ranges if entry[0].covers(extension)), None)

    def _longest_prefix(self, context: str, extension: str) -> str | None:
        prefixes = (extension[:n] for n in self._prefix_lengths if n <= len(extension))
        return next((p for p in prefixes if (context, p) in self._prefixes), None)
