"""What every store of co-signed checkpoints promises."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.storage.cosigned_checkpoints import (
    KEPT,
    CosignedCheckpoint,
    MemoryCosignedCheckpoints,
)
from ledger.storage.open_recorder import upgrade
from ledger.storage.sql_cosigned_checkpoints import SqlCosignedCheckpoints


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryCosignedCheckpoints()
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'log.sqlite'}"
        upgrade(url)
    else:
        url = request.getfixturevalue("postgres_url")
    opened = SqlCosignedCheckpoints(url)
    yield opened
    opened.close()


def row(size: int, log: str = "a", witness: str = "bravo", note: str = "") -> CosignedCheckpoint:
    return CosignedCheckpoint(log, witness, size, note or f"{log} at {size}, — {witness}\n")


def test_log_that_nobody_signed_has_none(store):
    assert store.newest("a", "bravo") is None
    assert store.all() == []


def test_newest_is_the_largest(store):
    assert store.add(row(3), 0)
    assert store.add(row(12), 3)
    assert store.newest("a", "bravo") == row(12)
    assert store.all() == [row(3), row(12)]


def test_one_that_does_not_follow_the_newest_is_not_kept(store):
    store.add(row(3), 0)
    assert not store.add(row(12), 0)
    assert not store.add(row(12), 2)
    assert not store.add(row(2), 3)
    assert not store.add(row(3), 0)
    assert store.all() == [row(3)]


def test_same_size_again_takes_the_place_of_the_one_before(store):
    store.add(row(3), 0)
    store.add(row(5), 3)
    assert store.add(row(5, note="later"), 5)
    assert store.all() == [row(3), row(5, note="later")]


def test_logs_and_witnesses_are_kept_apart(store):
    store.add(row(3), 0)
    assert store.add(row(2, log="b"), 0)
    assert store.add(row(1, witness="charlie"), 0)
    assert store.newest("b", "bravo") == row(2, log="b")
    assert store.newest("a", "charlie") == row(1, witness="charlie")


def test_only_the_newest_ones_are_kept(store):
    sizes = range(1, KEPT + 4)
    for size in sizes:
        assert store.add(row(size), size - 1)
    assert [kept.size for kept in store.all()] == list(sizes)[-KEPT:]


def test_two_that_follow_the_same_one_are_not_both_kept(store):
    """As when two processes of one server are asked to sign two histories at the same moment."""
    store.add(row(1), 0)
    with ThreadPoolExecutor(2) as pool:
        for size in range(2, 40, 2):
            newest = store.newest("a", "bravo").size
            answers = pool.map(
                lambda new, after=newest: store.add(row(new), after), (size, size + 1)
            )
            assert sum(answers) == 1
