"""What a recovery learns of a log while it is copied."""

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ledger.events import CallReceived, CallStatus
from ledger.migration.wire import KeptKey
from ledger.sealing import MasterKey
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.vault import Vault
from vmledger.blob_needs import BlobNeeds
from vmledger.recovery import FoldedLog

AT = datetime(2026, 3, 1, tzinfo=UTC)
CALL, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture
def vault() -> Vault:
    return Vault(MemoryLogRecorder(), MasterKey(os.urandom(32)), os.urandom)


def begins(call_id: UUID, vault: Vault) -> tuple[CallReceived, KeptKey]:
    """A sealed call and its key, as a log keeps it."""
    _, wrapped = vault.new_key(call_id)
    event = CallReceived(
        originator_id=call_id, originator_version=1, recorded_at=AT, recorded_by="alpha",
        called_extension="1001", context="default", status=CallStatus.BUSY,
        personal="c2VhbGVk",
    )  # fmt: skip
    return event, KeptKey(call_id, wrapped.wrapped)


def unopened(vault: Vault, *pages) -> set[UUID]:
    folded = FoldedLog(BlobNeeds("alpha", timedelta(days=1), AT), vault)
    for number, (events, keys) in enumerate(pages):
        folded.take(events, 1 + number, keys)
    return folded.unopened


def test_call_can_be_read_with_its_key_or_when_that_was_destroyed(vault):
    event, key = begins(CALL, vault)
    assert unopened(vault, ([event], [key])) == set()
    assert unopened(vault, ([event], [KeptKey(CALL, None)])) == set()


def test_call_cannot_be_read_without_its_key_or_with_that_of_another_master(vault):
    event, _ = begins(CALL, vault)
    _, foreign = begins(CALL, Vault(MemoryLogRecorder(), MasterKey(os.urandom(32)), os.urandom))
    assert unopened(vault, ([event], [])) == {CALL}
    assert unopened(vault, ([event], [foreign])) == {CALL}


def test_only_keys_that_are_kept_count(vault):
    event, key = begins(CALL, vault)
    other, of_other = begins(OTHER, vault)
    _, foreign = begins(CALL, Vault(MemoryLogRecorder(), MasterKey(os.urandom(32)), os.urandom))
    # With a later page it is not kept; of two, the first is.
    assert unopened(vault, ([event], []), ([other], [key, of_other])) == {CALL}
    assert unopened(vault, ([event], [foreign, key])) == {CALL}
    assert unopened(vault, ([event], [key, foreign])) == set()
