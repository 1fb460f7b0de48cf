"""What another server takes in of a mailbox's PIN, asked directly with hand-made batches."""

from __future__ import annotations

import hashlib
from uuid import UUID

import pytest

from ledger.events import PinChanged, encode
from ledger.migration.wire import Accepted
from ledger.pin import ScryptCost, make_verifier
from ledger.storage.event_log import LogEntry
from ledger.storage.stored_form import RecordingMetadata
from ledger.storage.stored_form import encode as stored_form
from tests.integration.migration.test_home import only, parcel_of, send
from tests.support.sites import START, run

STREAM = UUID(int=1001)
GOOD = make_verifier("2580", lambda size: b"s" * size, ScryptCost(n=2, r=1))


def stored(document: bytes) -> bytes:
    return stored_form(
        document, RecordingMetadata(call_id=STREAM, server="alpha", started_at=START)
    )


def pin_entry(stored_verifier: bytes, *, size_bytes: int | None = None) -> LogEntry:
    event = PinChanged(
        originator_id=STREAM,
        originator_version=1,
        recorded_at=START,
        recorded_by="alpha",
        mailbox="1001@default",
        verifier=hashlib.sha256(stored_verifier).hexdigest(),
        verifier_size_bytes=len(stored_verifier) if size_bytes is None else size_bytes,
        by="ann",
    )
    return LogEntry(1, STREAM, 1, event.topic, encode(event), None, None)


def sent(entry: LogEntry, *blobs: bytes):
    async def main():
        alpha, bravo = await only()
        named = {hashlib.sha256(blob).hexdigest(): blob for blob in blobs}
        answer = await send(alpha, bravo, [parcel_of([entry], blobs=tuple(named))], blobs=named)
        assert isinstance(answer, Accepted)
        return [refused.reason for refused in answer.refusals], bravo

    return run(main())


def test_verifier_that_came_along_is_kept_alone_so_that_it_can_go_alone():
    blob = stored(GOOD)
    refusals, bravo = sent(pin_entry(blob), blob)
    assert refusals == []
    assert len(bravo.of_kind(PinChanged)) == 1
    assert bravo.disk.blobs.has(hashlib.sha256(blob).hexdigest())
    assert bravo.disk.blobs.packs == {}


@pytest.mark.parametrize(
    "document",
    [b"", b"speech", b"{}", GOOD.replace(b"scrypt", b"rot13"), b" " * 5000],
    ids=["empty", "no JSON", "no fields", "unknown algorithm", "too long"],
)
def test_what_is_no_verifier_is_refused(document: bytes):
    blob = stored(document)
    refusals, bravo = sent(pin_entry(blob), blob)
    assert refusals == ["bad-audio"]
    assert bravo.events() == []
    assert not bravo.disk.blobs.has(hashlib.sha256(blob).hexdigest())


def test_verifier_of_another_size_than_its_event_says_is_refused():
    blob = stored(GOOD)
    refusals, _ = sent(pin_entry(blob, size_bytes=7), blob)
    assert refusals == ["bad-audio"]


def test_changed_pin_without_its_verifier_is_refused():
    refusals, bravo = sent(pin_entry(stored(GOOD)))
    assert refusals == ["audio-missing"]
    assert bravo.events() == []
