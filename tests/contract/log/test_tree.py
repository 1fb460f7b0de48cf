"""What every adapter promises of the log's Merkle tree: each commit is a tree head."""

from collections.abc import Callable

import pytest

from ledger.errors import NotFoundError
from ledger.storage.event_log import Append, LogRecorder
from ledger.storage.merkle import EMPTY_ROOT, Frontier, leaf_hash
from ledger.storage.merkle_proofs import (
    consistency_proof,
    inclusion_proof,
    verify_consistency,
    verify_inclusion,
)
from tests.support.stored_events import stored_event, stored_events

SIZE = 1030
"""More than four kept subtrees of 256, and some leaves."""
EVENTS = stored_events(1, range(1, SIZE + 1))


def _root(size: int) -> bytes:
    return Frontier().append(leaf_hash(event.state) for event in EVENTS[:size]).root()


@pytest.fixture
def long(log: LogRecorder) -> LogRecorder:
    """Give a log that was appended in uneven parts."""
    for start, stop in ((0, 1), (1, 255), (255, 700), (700, SIZE)):
        log.commit([Append(EVENTS[start:stop])])
    return log


def test_empty_log_has_the_root_of_nothing(log: LogRecorder) -> None:
    assert log.head().root == log.root_at(0) == EMPTY_ROOT


def test_head_is_the_tree_of_the_plain_bytes(long: LogRecorder) -> None:
    assert (long.head().position, long.head().root) == (SIZE, _root(SIZE))


@pytest.mark.parametrize("size", [1, 2, 3, 254, 255, 256, 257, 511, 512, 513, 1024, SIZE])
def test_root_of_the_past_can_be_given(long: LogRecorder, size: int) -> None:
    assert long.root_at(size) == _root(size)


def test_log_opened_anew_goes_on_with_the_same_tree(reopen: Callable[[], LogRecorder]) -> None:
    reopen().commit([Append(EVENTS[:300])])

    reopen().commit([Append(EVENTS[300:])])

    assert reopen().head().root == _root(SIZE)


def test_failed_append_leaves_the_tree_as_it_was(long: LogRecorder) -> None:
    long.commit([Append([stored_event(2, 1), EVENTS[0]])])

    assert long.head().root == _root(SIZE)


def test_stored_hashes_prove_each_event_and_each_growth(long: LogRecorder) -> None:
    for index, size in ((0, 1), (0, SIZE), (256, 257), (700, 1000), (SIZE - 1, SIZE)):
        leaf = leaf_hash(EVENTS[index].state)
        proof = inclusion_proof(index, size, long.read_hashes)
        assert verify_inclusion(leaf, index, size, proof, _root(size))
    for old, new in ((1, SIZE), (256, 512), (300, 900), (SIZE, SIZE)):
        proof = consistency_proof(old, new, long.read_hashes)
        assert verify_consistency(old, _root(old), new, _root(new), proof)


@pytest.mark.parametrize("beyond", [SIZE + 1, 1280, 2000, 70_000])
def test_root_past_the_end_is_not_found(long: LogRecorder, beyond: int) -> None:
    with pytest.raises(NotFoundError, match=str(SIZE)):
        long.root_at(beyond)
