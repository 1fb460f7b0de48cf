"""Merkle tree hashes of a log: leaves, nodes, frontiers and roots. Pure.

A `Frontier` holds the roots of the largest complete subtrees, one for each bit that is set in the
size, the largest first. That is all it takes to append and to give the root.

Source: RFC 9162 section 2.1 (the same tree as RFC 6962 section 2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeAlias

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
"""Root of the tree without leaves (section 2.1.1)."""


def leaf_hash(data: bytes) -> bytes:
    """Hash a leaf's data (section 2.1.1: prefix 0x00)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into their parent (section 2.1.1: prefix 0x01)."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class TreeNode:
    """The root of a complete subtree: of the ``index``-th run of ``2**level`` leaves (0-based)."""

    level: int
    index: int
    hash: bytes


KeepNode: TypeAlias = Callable[[TreeNode], None]
ReadHashes: TypeAlias = Callable[[int, int, int], Sequence[bytes]]
"""(level, first, stop) -> the hashes of the complete subtrees first..stop-1 of that level; level 0
are the leaf hashes. Only multiples of 8 are asked for: what `Frontier.append` tells ``keep`` of."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree's size and the roots of its complete subtrees, the largest first."""

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def append(self, leaves: Iterable[bytes], keep: KeepNode | None = None) -> Frontier:
        """Give the frontier with these leaf hashes appended.

        ``keep`` is told of every complete subtree of 256, 65 536, … leaves that they finish.
        """
        size, roots = self.size, list(self.roots)
        for leaf in leaves:
            carried = leaf
            bits, level = size, 0
            while bits & 1:
                carried = sha256(b"\x01" + roots.pop() + carried).digest()
                bits >>= 1
                level += 1
                if not level & 7 and keep is not None:
                    keep(TreeNode(level, size >> level, carried))
            roots.append(carried)
            size += 1
        return Frontier(size, tuple(roots))

    def root(self) -> bytes:
        """Give the tree hash."""
        if not self.roots:
            return EMPTY_ROOT
        result = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            result = node_hash(left, result)
        return result

    def to_bytes(self) -> bytes:
        """Give the roots end to end; the size is stored beside them."""
        return b"".join(self.roots)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """Read what `to_bytes` gave; raises ValueError when it cannot be of that size."""
        if len(data) != size.bit_count() * HASH_BYTES:
            raise ValueError(f"a frontier of {size} leaves has not {len(data)} bytes")
        starts = range(0, len(data), HASH_BYTES)
        return cls(size, tuple(data[start : start + HASH_BYTES] for start in starts))


def frontier_at(size: int, read: ReadHashes) -> Frontier:
    """Give the frontier that the log had at an earlier size, from stored hashes.

    Reads at most 255 hashes a level: those that no kept subtree of the next level covers.
    """
    return Frontier(size, _complete_subtrees(0, size, read))


def subtree_root(first: int, stop: int, read: ReadHashes) -> bytes:
    """Give the tree hash of leaves first..stop-1, as far as a proof may ask for it.

    ``first`` must be a multiple of a power of two that is at least ``stop - first``.
    """
    return Frontier(stop - first, _complete_subtrees(first, stop, read)).root()


def _complete_subtrees(first: int, stop: int, read: ReadHashes) -> tuple[bytes, ...]:
    level = 8 * max(0, ((stop - first).bit_length() - 1) // 8)
    roots: list[bytes] = []
    while level >= 0:
        start, end = first >> level, stop >> level
        roots.extend(Frontier().append(read(level, start, end)).roots)
        first, level = end << level, level - 8
    return tuple(roots)
