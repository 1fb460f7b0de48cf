"""Tiles: their addresses, and that all proofs can be computed from nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import CallerError
from ledger.storage.merkle import Frontier, leaf_hash
from ledger.storage.tiles import TilePlace, bundle, parse_place, read_tile


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("000", TilePlace(0)),
        ("067", TilePlace(67)),
        ("x001/x234/067", TilePlace(1234067)),
        ("x001/000.p/17", TilePlace(1000, 17)),
        ("273.p/112", TilePlace(273, 112)),
        ("000.p/255", TilePlace(0, 255)),
    ],
)
def test_place_is_written_in_groups_of_three_digits(path, place):
    assert parse_place(path) == place


@pytest.mark.parametrize(
    "path",
    ["", "1", "0001", "001/002", "x000/001", "001.p/0", "001.p/256", "001.p/01", "../001", "001/"],
)
def test_any_other_path_is_refused(path):
    with pytest.raises(CallerError, match="not the place of a tile"):
        parse_place(path)


@given(st.integers(0, 10**12))
def test_every_number_has_one_place(index):
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[start : start + 3] for start in range(0, len(digits), 3)]
    path = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    assert parse_place(path).index == index


def test_tiles_of_a_tree_of_70_000_are_those_that_the_specification_counts():
    """The example of the specification: 273 full tiles and one of 112, then 1 and one of 17, …"""
    size = 70_000
    leaves = [leaf_hash(b"%d" % number) for number in range(size)]
    nodes: dict[int, dict[int, bytes]] = {8: {}, 16: {}}
    root = Frontier().append(leaves, lambda n: nodes[n.level].__setitem__(n.index, n.hash)).root()

    def read(level, first, stop):
        return [leaves[i] if level == 0 else nodes[level][i] for i in range(first, stop)]

    widths = {level: (size >> 8 * level) % 256 for level in range(3)}
    assert widths == {0: 112, 1: 17, 2: 1}
    (top,) = [read_tile(2, TilePlace(0, 1), read)]
    right = [read_tile(1, TilePlace(1, 17), read), read_tile(0, TilePlace(273, 112), read)]
    roots = [top, *(hashes[i : i + 32] for hashes in right for i in range(0, len(hashes), 32))]
    # The hashes of the partial tiles, with those of each joined, are all it takes for the root.
    tree = Frontier()
    for hashes, weight in ((roots[:1], 65_536), (roots[1:18], 256), (roots[18:], 1)):
        joined = Frontier().append(hashes)
        tree = Frontier(tree.size + weight * joined.size, tree.roots + joined.roots)
    assert (tree.size, tree.root()) == (size, root)


def test_level_that_no_log_reaches_is_refused():
    with pytest.raises(CallerError, match="no level 8"):
        read_tile(8, TilePlace(0), lambda *_: [])


def test_events_stand_behind_their_lengths():
    assert bundle([b"", b"abc"]) == b"\0\0\0\3abc"
    with pytest.raises(CallerError, match="65536 bytes"):
        bundle([b"x" * 65_536])
