"""The spool with a key: nothing readable on the disk, and nothing lost by that."""

import hashlib
import os
import random
from datetime import UTC, datetime
from uuid import UUID

import pytest

from ledger.errors import ConflictError, NotFoundError, TransientError
from ledger.sealing import MessageKey
from ledger.storage.sealed_form import HEADER_BYTES
from ledger.storage.sealed_recording import (
    SealedRecordingWriter,
    decode_sealed,
    mend_sealed,
    open_recording,
)
from ledger.storage.spool import SET_ASIDE, Spool
from ledger.storage.stored_form import RecordingMetadata, encode
from tests.support.small_disk import small_disk

CALL = UUID(int=1)
KEY = MessageKey(CALL, bytes(range(32)))
METADATA = RecordingMetadata(
    call_id=CALL, server="alpha", started_at=datetime(2026, 1, 1, tzinfo=UTC)
)
NOISE = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(250))  # 8 000 bytes


def find_key(call_id):
    if call_id != CALL:
        raise NotFoundError("no such key")
    return KEY


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool", find_key=find_key)


def after_restart(spool):
    return Spool(spool.directory, find_key=find_key)


def interrupted(spool, received=NOISE * 3, cut_bytes=0):
    """Leave a recording as a kill leaves it, perhaps torn; give its file."""
    recording = spool.open(CALL, METADATA, KEY)
    for start in range(0, len(received), 8000):
        recording.append(received[start : start + 8000], force=True)
    recording.close()
    data = recording.path.read_bytes()
    recording.path.write_bytes(data[: len(data) - cut_bytes])
    return recording.path


def test_nothing_readable_is_on_the_disk_while_the_caller_speaks(spool):
    recording = spool.open(CALL, METADATA, KEY)
    recording.append(NOISE, force=True)
    data = recording.path.read_bytes()
    assert len(data) > len(NOISE), "it is there"
    assert NOISE[:16] not in data
    assert b"alpha" not in data
    recording.close()


def test_finished_file_is_the_blob_and_opens_with_its_key_only(spool):
    recording = spool.open(CALL, METADATA, KEY)
    recording.append(NOISE)
    finished = recording.finish()
    data = finished.path.read_bytes()
    assert finished.blob_digest == hashlib.sha256(data).hexdigest()
    assert finished.blob_size_bytes == len(data)
    assert finished.received_digest == hashlib.sha256(NOISE).hexdigest()
    assert finished.read(max_bytes=8000) == decode_sealed(data, KEY) == NOISE


def test_finished_recording_is_found_again_under_the_same_address(spool):
    recording = spool.open(CALL, METADATA, KEY)
    recording.append(NOISE)
    finished = recording.finish()
    (left,) = after_restart(spool).interrupted()
    assert (left.blob_digest, left.received) == (finished.blob_digest, NOISE)
    assert (left.cut_bytes, left.metadata) == (0, METADATA)


@pytest.mark.parametrize("cut_bytes", [0, 1, 5000, 8100])
def test_interrupted_recording_becomes_a_finished_one(spool, cut_bytes):
    path = interrupted(spool, cut_bytes=cut_bytes)
    torn = path.read_bytes()
    (left,) = after_restart(spool).interrupted()
    data = path.read_bytes()
    assert left.blob_digest == hashlib.sha256(data).hexdigest()
    assert left.metadata == METADATA
    assert decode_sealed(data, KEY) == left.received
    assert left.received == NOISE * {0: 3, 1: 2, 5000: 2, 8100: 1}[cut_bytes]
    assert (left.tail is not None) == bool(cut_bytes)
    assert left.tail is None or left.tail.read_bytes() == torn, "it can be looked at with the key"


def test_what_was_mended_is_sealed_under_another_salt(spool):
    path = interrupted(spool, cut_bytes=1)
    before = path.read_bytes()
    after_restart(spool).interrupted()
    assert path.read_bytes()[:HEADER_BYTES] != before[:HEADER_BYTES]


def test_mending_again_changes_nothing(spool):
    path = interrupted(spool, cut_bytes=1)
    after_restart(spool).interrupted()
    before = path.read_bytes()
    (left,) = after_restart(spool).interrupted()
    assert path.read_bytes() == before
    assert left.cut_bytes == 0


@pytest.mark.parametrize("length", [0, 7, 8, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 3])
def test_left_over_without_metadata_is_reported_empty(spool, length):
    path = interrupted(spool)
    path.write_bytes(path.read_bytes()[:length])
    (left,) = after_restart(spool).interrupted()
    assert (left.call_id, left.received, left.metadata) == (CALL, b"", None)


def test_left_over_whose_key_is_not_here_is_set_aside_as_it_is(spool):
    path = interrupted(spool)
    before = path.read_bytes()
    assert Spool(spool.directory).interrupted() == []
    aside = spool.directory / SET_ASIDE / path.name
    assert aside.read_bytes() == before
    assert "the key of call" in aside.with_suffix(".reason.txt").read_text()
    assert not path.exists()


def test_every_cut_of_a_fast_upload_is_mended_to_an_exact_prefix():
    """Its frames are larger than segments: a segment ends within a frame."""
    received = random.Random(1).randbytes(200_000)
    writer = SealedRecordingWriter(METADATA, KEY, os.urandom)
    sealed = writer.header() + writer.add(received) + writer.finish()
    lengths = set()
    for cut in range(0, len(sealed) + 1, 997):
        mended = mend_sealed(sealed[:cut], KEY, os.urandom)
        assert received.startswith(mended.received)
        if mended.stored:
            assert decode_sealed(mended.sealed, KEY) == mended.received
        lengths.add(len(mended.received))
    assert len(lengths) > 2
    assert mend_sealed(sealed, KEY, os.urandom).sealed == sealed


def test_recording_is_opened_whether_it_is_sealed_or_older():
    writer = SealedRecordingWriter(METADATA, KEY, os.urandom)
    sealed = writer.header() + writer.add(NOISE) + writer.finish()
    assert open_recording(sealed, find_key) == NOISE
    assert open_recording(encode(NOISE, METADATA), find_key) == NOISE


def test_recording_of_a_call_without_a_key_is_not_damage():
    other = MessageKey(UUID(int=2), KEY.secret)
    writer = SealedRecordingWriter(METADATA, other, os.urandom)
    sealed = writer.header() + writer.add(NOISE) + writer.finish()
    with pytest.raises(NotFoundError):
        open_recording(sealed, find_key)


def test_finished_recording_takes_no_more():
    writer = SealedRecordingWriter(METADATA, KEY, os.urandom)
    sealed = writer.header() + writer.add(NOISE) + writer.finish()
    assert writer.finish() == b"", "again gives no second end"
    with pytest.raises(ConflictError):
        writer.add(b"more")
    assert decode_sealed(sealed, KEY) == NOISE


def test_end_that_did_not_fit_is_written_once_there_is_room(spool):
    with small_disk() as make_room:
        recording = spool.open(CALL, METADATA, KEY)
        recording.append(b"before ", force=True)
        recording.append(b"after ")
        with pytest.raises(TransientError):
            recording.append(NOISE, force=True)
        with pytest.raises(TransientError):
            recording.finish()
        make_room()
        finished = recording.finish()
        assert finished.read(max_bytes=10_000) == b"before after " + NOISE
        assert finished.blob_digest == hashlib.sha256(finished.path.read_bytes()).hexdigest()
