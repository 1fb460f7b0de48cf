"""What is shown of who called, when its key is here, gone, elsewhere or of no use."""

from __future__ import annotations

import os
import random
from uuid import UUID

import pytest

from ledger.caller import CallerState, SeenCaller, seal_caller
from ledger.errors import TransientError
from ledger.events import Caller, Sealed
from ledger.sealing import MasterKey, WrappedKey
from ledger.storage.callers import Callers
from ledger.storage.event_log import Append
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.vault import Vault

HERE, GONE, ELSEWHERE = UUID(int=1), UUID(int=2), UUID(int=3)
ANN = Caller(number="+4930", name="Ann")


@pytest.fixture
def log() -> MemoryLogRecorder:
    return MemoryLogRecorder()


@pytest.fixture
def vault(log: MemoryLogRecorder) -> Vault:
    return Vault(log, MasterKey(random.Random(1).randbytes(32)), os.urandom)


def sealed(log: MemoryLogRecorder, vault: Vault, call_id: UUID, *, is_kept: bool = True) -> Sealed:
    key, wrapped = vault.new_key(call_id)
    if is_kept:
        log.commit([Append([], keys=[wrapped])])
    return seal_caller(ANN, key, os.urandom)


def test_each_caller_is_known_erased_or_sealed(log, vault):
    asked = [
        (ELSEWHERE, sealed(log, vault, ELSEWHERE, is_kept=False)),
        (GONE, sealed(log, vault, GONE)),
        (HERE, sealed(log, vault, HERE)),
    ]
    log.commit([Append([], keys=vault.destroy([GONE]))])
    assert Callers(vault).see(asked) == [
        SeenCaller(state=CallerState.SEALED),
        SeenCaller(state=CallerState.ERASED),
        SeenCaller(state=CallerState.KNOWN, caller=ANN),
    ]


def test_caller_of_an_event_from_before_the_sealing_is_known_without_a_key(vault):
    assert Callers(vault).see_one(HERE, ANN) == SeenCaller(state=CallerState.KNOWN, caller=ANN)


def test_caller_that_nobody_told_of_counts_as_withheld(vault):
    assert Callers(vault).see_one(HERE, None) == SeenCaller(state=CallerState.KNOWN)


def test_bytes_that_the_key_does_not_open_spoil_no_other_caller(log, vault):
    good = sealed(log, vault, HERE)
    sealed(log, vault, GONE)
    states = [one.state for one in Callers(vault).see([(GONE, good), (HERE, good), (GONE, "AAAA")])]
    assert states == [CallerState.DAMAGED, CallerState.KNOWN, CallerState.DAMAGED]


def test_key_that_is_damaged_or_of_another_master_key_spoils_no_other_caller(log, vault):
    good = sealed(log, vault, HERE)
    _, foreign = Vault(log, MasterKey(bytes(32)), os.urandom).new_key(GONE)
    damaged = WrappedKey(ELSEWHERE, b"\x01 damaged")
    log.commit([Append([], keys=[foreign, damaged])])
    seen = Callers(vault).see([(GONE, good), (HERE, good), (ELSEWHERE, good)])
    assert [one.state for one in seen] == [
        CallerState.DAMAGED,
        CallerState.KNOWN,
        CallerState.DAMAGED,
    ]


def test_keys_of_all_callers_of_a_page_are_asked_for_once(log, vault):
    asked = []

    class Counting:
        def find(self, call_ids):
            asked.append(set(call_ids))
            return vault.find(asked[-1])

    callers = [(call, sealed(log, vault, call)) for call in (HERE, GONE)]
    Callers(Counting()).see([*callers, callers[0], (ELSEWHERE, ANN)])
    assert asked == [{HERE, GONE}]


def test_database_that_is_away_is_no_reason_to_call_a_caller_sealed():
    class Away:
        def find(self, call_ids):
            raise TransientError("the database is away")

    with pytest.raises(TransientError):
        Callers(Away()).see_one(HERE, "AAAA")
