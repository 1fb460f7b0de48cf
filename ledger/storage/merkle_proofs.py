"""Proofs over the log's Merkle tree: an event is in it, and it only ever grew. Pure.

Whoever keeps nothing but an old root can check with a few hashes that an event was in the log then,
or that the log of today still holds all it held. Proofs are made from stored hashes (`ReadHashes`)
and checked from nothing but their own.

Source: RFC 9162 sections 2.1.3 (inclusion) and 2.1.4 (consistency).
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.storage.merkle import EMPTY_ROOT, ReadHashes, node_hash, subtree_root


def inclusion_proof(index: int, size: int, read: ReadHashes) -> list[bytes]:
    """Prove that the tree of ``size`` leaves holds leaf ``index`` (0-based), section 2.1.3.1.

    Raises ValueError when it does not.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    first, stop = 0, size
    while stop - first > 1:
        middle = first + _split(stop - first)
        if index < middle:
            path.append(subtree_root(middle, stop, read))
            stop = middle
        else:
            path.append(subtree_root(first, middle, read))
            first = middle
    return path[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Check an inclusion proof for this leaf hash (section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and result == root


def consistency_proof(old_size: int, new_size: int, read: ReadHashes) -> list[bytes]:
    """Prove that the tree of ``new_size`` leaves begins with that of ``old_size``, section 2.1.4.1.

    Empty when the sizes are equal or the old tree is. Raises ValueError when the old tree is the
    larger.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of {new_size} leaves never grew out of one of {old_size}")
    if old_size in (0, new_size):
        return []
    path: list[bytes] = []
    first, stop = 0, new_size
    while old_size < stop:
        middle = first + _split(stop - first)
        if old_size <= middle:
            path.append(subtree_root(middle, stop, read))
            stop = middle
        else:
            path.append(subtree_root(first, middle, read))
            first = middle
    if first:
        # The verifier does not know this subtree; when it is the whole old tree he has its root.
        path.append(subtree_root(first, stop, read))
    return path[::-1]


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Check a consistency proof between two roots (section 2.1.4.2)."""
    if old_size == new_size:
        return not proof and old_root == new_root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    if not 0 < old_size < new_size:
        return False
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    return bool(path) and _grows(old_size, old_root, new_size, new_root, path)


def _grows(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> bool:
    old_node, last = old_size - 1, new_size - 1
    while old_node & 1:
        old_node, last = old_node >> 1, last >> 1
    old, new = path[0], path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if old_node & 1 or old_node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not old_node & 1 and old_node:
                old_node, last = old_node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        old_node, last = old_node >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


def _split(size: int) -> int:
    """Give the largest power of two below ``size`` (section 2.1.1)."""
    return 1 << ((size - 1).bit_length() - 1)
