"""Errors say who must act, and carry their data."""

import pickle

import pytest

from ledger.errors import (
    CallerError,
    ConflictError,
    CorruptionError,
    LedgerError,
    NotFoundError,
    PeerError,
    TransientError,
)

ERRORS = [
    CallerError("fix it"),
    NotFoundError("fix it"),
    ConflictError("fix it"),
    PeerError("fix it", peer="bravo"),
    TransientError("fix it"),
    CorruptionError("fix it", place="position 7"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_is_of_exactly_one_of_the_four_kinds(error):
    kinds = (CallerError, PeerError, TransientError, CorruptionError)
    assert sum(isinstance(error, kind) for kind in kinds) == 1
    assert isinstance(error, LedgerError)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_crosses_to_another_process_with_all_that_it_carries(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args, vars(again)) == (type(error), error.args, vars(error))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_speaks_in_its_own_words(error):
    assert str(error).startswith("fix it")
    assert error.message == str(error)


def test_absence_and_contradiction_are_for_the_caller_to_fix():
    assert issubclass(NotFoundError, CallerError)
    assert issubclass(ConflictError, CallerError)


def test_peer_error_names_the_peer():
    assert PeerError("sent half a batch", peer="bravo").peer == "bravo"


def test_transient_error_says_when_to_try_again():
    assert TransientError("disk full", retry_after_s=30).retry_after_s == 30


def test_corruption_error_tells_place_and_what_to_do():
    error = CorruptionError(
        "the blob is damaged", place="blobs/ab/cd", expected="ab", found="00", advice="restore it"
    )
    assert str(error) == "the blob is damaged (at blobs/ab/cd); restore it"
    assert (error.place, error.expected, error.found) == ("blobs/ab/cd", "ab", "00")
    assert error.advice == "restore it"
