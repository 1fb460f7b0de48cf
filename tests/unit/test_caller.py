"""Who called is read with the call's key, and with nothing else."""

from __future__ import annotations

import base64
import random
from uuid import UUID

import pytest
from hypothesis import given

from ledger.caller import PURPOSE, open_caller, seal_caller
from ledger.errors import CorruptionError
from ledger.events import Caller, Sealed
from ledger.sealing import SEALED_OVERHEAD_BYTES, MessageKey
from tests.support.strategies import of_struct

KEY = MessageKey(UUID(int=1), bytes(range(32)))
ANN = Caller(number="+4930123", name="Ann Lee", redirecting_number="2009")


def seal(caller: Caller, seed: int = 1) -> Sealed:
    return seal_caller(caller, KEY, random.Random(seed).randbytes)


@given(of_struct(Caller))
def test_what_is_sealed_comes_back(caller: Caller):
    assert open_caller(seal(caller), KEY) == caller


def test_nothing_of_the_caller_can_be_read_without_the_key():
    plain = base64.b64decode(seal(ANN))
    assert not any(part in plain for part in (b"4930123", b"Ann", b"2009", b"number"))


def test_the_same_caller_is_sealed_to_other_bytes_each_time():
    assert seal(ANN, seed=1) != seal(ANN, seed=2)


def test_the_length_does_not_tell_whether_there_is_a_number_or_a_name():
    withheld, named = seal(Caller()), seal(Caller(number="+4930123456789", name="Ann"))
    assert len(withheld) == len(named)
    assert len(base64.b64decode(named)) == 64 + SEALED_OVERHEAD_BYTES


def test_the_key_of_another_call_opens_nothing():
    with pytest.raises(CorruptionError, match="does not open"):
        open_caller(seal(ANN), MessageKey(UUID(int=2), KEY.secret))


@pytest.mark.parametrize("sealed", ["", "AAAA", "not base64", seal(ANN)[:-4]])
def test_text_that_is_not_sealed_so_is_corrupt(sealed: str):
    with pytest.raises(CorruptionError):
        open_caller(sealed, KEY)


def test_sealed_bytes_that_are_no_caller_are_corrupt():
    sealed = KEY.seal(b'{"number":7}', PURPOSE, random.Random(1).randbytes)
    with pytest.raises(CorruptionError, match="not as it was sealed"):
        open_caller(base64.b64encode(sealed).decode(), KEY)
