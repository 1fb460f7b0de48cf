"""The Merkle tree: the published values, a naive twin from the RFC's text, and another library."""

from collections.abc import Callable, Sequence
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from ledger.storage.merkle import EMPTY_ROOT, Frontier, TreeNode, frontier_at, leaf_hash
from ledger.storage.merkle_proofs import (
    consistency_proof,
    inclusion_proof,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves and the roots of each prefix that Certificate Transparency's tests publish.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
Read = Callable[[int, int, int], Sequence[bytes]]


def _naive_root(leaves: Sequence[bytes]) -> bytes:
    """Follow section 2.1.1 of the RFC word by word, over leaf data."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + _naive_root(leaves[:k]) + _naive_root(leaves[k:])).digest()


def _numbered(size: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(size)]


def _reader(leaves: Sequence[bytes]) -> Read:
    """Keep what a log keeps: the leaf hashes, and the nodes that an append tells of."""
    nodes: dict[tuple[int, int], bytes] = {}

    def keep(node: TreeNode) -> None:
        nodes[node.level, node.index] = node.hash

    hashes = [leaf_hash(leaf) for leaf in leaves]
    Frontier().append(hashes, keep)

    def read(level: int, first: int, stop: int) -> Sequence[bytes]:
        assert 0 <= first <= stop
        assert stop - first <= 256, "more hashes than a kept node would cover"
        return hashes[first:stop] if level == 0 else [nodes[level, i] for i in range(first, stop)]

    return read


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_published_roots_come_out(size: int) -> None:
    frontier = Frontier().append([leaf_hash(leaf) for leaf in LEAVES[:size]])

    assert frontier.root() == ROOTS[size]


def test_empty_tree_has_the_hash_of_nothing() -> None:
    assert Frontier().root() == EMPTY_ROOT == sha256().digest()


@pytest.mark.parametrize(
    ("position", "size", "path"),
    [
        (1, 1, []),
        (
            1,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (3, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            2,
            5,
            [
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ],
)
def test_published_inclusion_proofs_come_out(position: int, size: int, path: list[str]) -> None:
    proof = inclusion_proof(position - 1, size, _reader(LEAVES))

    assert [digest.hex() for digest in proof] == path


@pytest.mark.parametrize(
    ("old_size", "new_size", "path"),
    [
        (1, 1, []),
        (
            1,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            [
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ],
)
def test_published_consistency_proofs_come_out(
    old_size: int, new_size: int, path: list[str]
) -> None:
    proof = consistency_proof(old_size, new_size, _reader(LEAVES))

    assert [digest.hex() for digest in proof] == path


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_root_is_that_of_the_naive_recursion(leaves: list[bytes]) -> None:
    assert Frontier().append(map(leaf_hash, leaves)).root() == _naive_root(leaves)


@given(st.integers(0, 200), st.integers(0, 200))
def test_leaves_may_be_appended_in_any_parts(first: int, second: int) -> None:
    leaves = [leaf_hash(leaf) for leaf in _numbered(first + second)]

    in_parts = Frontier().append(leaves[:first]).append(leaves[first:])

    assert in_parts == Frontier().append(leaves)


@given(st.integers(0, 5000))
def test_frontier_survives_being_written_down(size: int) -> None:
    frontier = Frontier(size, tuple(bytes([n]) * 32 for n in range(size.bit_count())))

    assert Frontier.from_bytes(size, frontier.to_bytes()) == frontier


@pytest.mark.parametrize(("size", "data"), [(1, b""), (0, b"x" * 32), (3, b"x" * 63)])
def test_frontier_of_another_size_is_refused(size: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="frontier"):
        Frontier.from_bytes(size, data)


BIG = 66_000
"""More than one subtree of the second kept level."""


@pytest.fixture(scope="module")
def big() -> tuple[Read, InmemoryTree]:
    """Give the stored hashes of a big tree, and the other library's tree of the same leaves."""
    leaves = _numbered(BIG)
    tree = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        tree.append_entry(leaf)
    return _reader(leaves), tree


SIZES = st.one_of(
    st.integers(0, 1030),
    st.integers(0, BIG),
    st.sampled_from([255, 256, 257, 512, 65_535, 65_536, 65_537, 65_792]),
)


@given(size=SIZES)
@settings(max_examples=60, deadline=None)
def test_root_at_any_size_is_that_of_another_library(
    big: tuple[Read, InmemoryTree], size: int
) -> None:
    read, tree = big

    assert frontier_at(size, read).root() == (tree.get_root(size) if size else EMPTY_ROOT)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_inclusion_proof_is_that_of_another_library(
    big: tuple[Read, InmemoryTree], data: st.DataObject
) -> None:
    read, tree = big
    size = data.draw(SIZES.filter(bool))
    index = data.draw(st.integers(0, size - 1))

    proof = inclusion_proof(index, size, read)

    theirs = tree.prove_inclusion(index + 1, size).path
    leaf = leaf_hash(b"leaf %d" % index)
    assert [leaf, *proof] == theirs
    assert verify_inclusion(leaf, index, size, proof, tree.get_root(size))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_consistency_proof_convinces_between_the_other_librarys_roots(
    big: tuple[Read, InmemoryTree], data: st.DataObject
) -> None:
    read, tree = big
    new_size = data.draw(SIZES.filter(bool))
    old_size = data.draw(st.integers(1, new_size))
    old_root, new_root = tree.get_root(old_size), tree.get_root(new_size)

    proof = consistency_proof(old_size, new_size, read)

    assert verify_consistency(old_size, old_root, new_size, new_root, proof)


def test_every_proof_of_small_trees_verifies_and_none_for_another_tree_or_leaf() -> None:
    leaves = _numbered(33)
    read = _reader(leaves)
    roots = [_naive_root(leaves[:size]) for size in range(len(leaves) + 1)]
    for size in range(1, len(leaves) + 1):
        for index in range(size):
            proof = inclusion_proof(index, size, read)
            leaf = leaf_hash(leaves[index])
            assert verify_inclusion(leaf, index, size, proof, roots[size])
            assert not verify_inclusion(leaf_hash(b"other"), index, size, proof, roots[size])
            assert not verify_inclusion(leaf, index, size, proof, roots[size - 1])
            assert not verify_inclusion(leaf, index, size, [*proof, leaf], roots[size])
            if proof:
                assert not verify_inclusion(leaf, index, size, proof[:-1], roots[size])
        for old in range(size + 1):
            proof = consistency_proof(old, size, read)
            assert verify_consistency(old, roots[old], size, roots[size], proof)
            forged = sha256(b"another history").digest()
            assert not verify_consistency(old, forged, size, roots[size], proof)
            if old:
                assert not verify_consistency(old, roots[old], size, forged, proof)
            if proof:
                assert not verify_consistency(old, roots[old], size, roots[size], proof[:-1])
                assert not verify_consistency(
                    old, roots[old], size, roots[size], [*proof, roots[0]]
                )


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 3)])
def test_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_proof(index, size, _reader(_numbered(8)))
    assert not verify_inclusion(leaf_hash(b""), index, size, [], EMPTY_ROOT)


def test_tree_that_shrank_has_no_proof() -> None:
    with pytest.raises(ValueError, match="never grew"):
        consistency_proof(5, 4, _reader(_numbered(8)))
    assert not verify_consistency(5, ROOTS[5], 4, ROOTS[4], [])
