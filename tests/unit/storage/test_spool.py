"""The spool: what is kept, when, and what a restart finds."""

import hashlib
import os
import random
from datetime import UTC, datetime
from uuid import UUID

import pytest

from ledger.errors import ConflictError, CorruptionError, TransientError
from ledger.storage.files import SystemFiles
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.spool import SET_ASIDE, Spool
from ledger.storage.stored_form import RecordingMetadata, decode, encode, intact_prefix
from tests.support.small_disk import small_disk

CALL = UUID(int=1)
METADATA = RecordingMetadata(
    call_id=CALL,
    server="alpha",
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    content_type="audio/PCMU",
)
NOISE = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(250))  # 8 000 bytes


class Time:
    def __init__(self):
        self.s = 100.0

    def __call__(self):
        return self.s


@pytest.fixture
def time_s():
    return Time()


@pytest.fixture
def spool(tmp_path, time_s):
    return Spool(tmp_path / "spool", monotonic_s=time_s)


def after_restart(spool):
    """Give the same directory to a process that knows nothing of the first one."""
    return Spool(spool.directory)


@pytest.fixture
def syncs(monkeypatch):
    """Counts what is really synced to files."""
    calls = []
    real = os.fdatasync

    def counting(descriptor):
        calls.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", counting)
    return calls


def on_disk(recording):
    return intact_prefix(recording.path.read_bytes()).received


def test_finished_file_is_the_stored_form(spool):
    recording = spool.open(CALL, METADATA)
    recording.append(b"hello ")
    recording.append(NOISE)
    finished = recording.finish()
    stored = finished.path.read_bytes()
    assert decode(stored) == b"hello " + NOISE == finished.read(max_bytes=10_000)
    assert finished.blob_digest == hashlib.sha256(stored).hexdigest()
    assert finished.blob_size_bytes == len(stored)
    assert finished.received_digest == hashlib.sha256(b"hello " + NOISE).hexdigest()
    assert finished.received_bytes_count == recording.received_bytes_count == 6 + len(NOISE)


def test_recording_without_audio_can_be_finished(spool):
    finished = spool.open(CALL, METADATA).finish()
    assert finished.read(max_bytes=0) == b""


def test_audio_reaches_the_disk_once_a_second(spool, time_s, syncs):
    recording = spool.open(CALL, METADATA)
    for piece in range(250):  # five seconds of 20 ms
        time_s.s = 100.0 + (piece + 1) / 50
        recording.append(NOISE[:160])
    assert len(syncs) == 5
    assert len(on_disk(recording)) == 250 * 160


def test_slow_codec_waits_no_longer_than_a_second_either(spool, time_s, syncs):
    recording = spool.open(CALL, METADATA)
    recording.append(b"few bytes")
    assert on_disk(recording) == b""
    time_s.s += 1
    recording.append(b", and more")
    assert on_disk(recording) == b"few bytes, and more"
    assert len(syncs) == 1


def test_forced_append_is_synced_at_once(spool, syncs):
    recording = spool.open(CALL, METADATA)
    recording.append(b"now", force=True)
    assert on_disk(recording) == b"now"
    assert len(syncs) == 1


def test_second_recording_of_a_call_is_a_conflict(spool):
    spool.open(CALL, METADATA)
    with pytest.raises(ConflictError, match=str(CALL)):
        spool.open(CALL, METADATA)


def test_ended_recording_takes_no_more(spool):
    recording = spool.open(CALL, METADATA)
    recording.finish()
    with pytest.raises(ConflictError):
        recording.append(b"late")


def test_discarded_recording_leaves_nothing_and_frees_the_call(spool):
    recording = spool.open(CALL, METADATA)
    recording.append(NOISE)
    recording.discard()
    assert spool.interrupted() == []
    spool.open(CALL, METADATA)


def test_set_aside_recording_keeps_every_byte_and_the_reason(spool):
    recording = spool.open(CALL, METADATA)
    recording.append(NOISE + b"tail")
    place = recording.set_aside("not audio: it is a picture")
    assert decode(place.read_bytes()) == NOISE + b"tail"
    assert place.with_suffix(".reason.txt").read_text() == "not audio: it is a picture\n"
    assert spool.interrupted() == []


def test_setting_aside_twice_for_one_call_keeps_both(spool):
    places = []
    for content in (b"first", b"second"):
        recording = spool.open(CALL, METADATA)
        recording.append(content)
        recording.finish()
        places.append(recording.set_aside("broken"))
    assert [decode(p.read_bytes()) for p in places] == [b"first", b"second"]


def test_restart_finds_what_was_synced(spool):
    recording = spool.open(CALL, METADATA)
    recording.append(NOISE, force=True)
    recording.append(b"not yet on disk")
    (left,) = after_restart(spool).interrupted()
    assert (left.call_id, left.metadata, left.received) == (CALL, METADATA, NOISE)
    assert left.cut_bytes == 0
    assert left.blob_digest == hashlib.sha256(left.path.read_bytes()).hexdigest()


def test_restart_finds_a_finished_recording_until_it_is_discarded(spool, tmp_path):
    recording = spool.open(CALL, METADATA)
    recording.append(NOISE)
    finished = recording.finish()
    FilesystemBlobStore(tmp_path / "blobs").put_file(finished.blob_digest, finished.path)
    (left,) = after_restart(spool).interrupted()
    assert (left.blob_digest, left.received_digest) == (
        finished.blob_digest,
        finished.received_digest,
    )
    recording.discard()
    assert after_restart(spool).interrupted() == []


@pytest.mark.parametrize("cut", [1, 2, 100, 7_000])
def test_torn_tail_is_cut_and_kept(spool, cut):
    recording = spool.open(CALL, METADATA)
    recording.append(b"whole", force=True)
    whole = recording.path.read_bytes()
    recording.append(NOISE, force=True)
    torn = recording.path.read_bytes()[:-cut]
    recording.path.write_bytes(torn)
    (left,) = after_restart(spool).interrupted()
    assert left.received == b"whole"
    assert left.path.read_bytes() == whole
    assert left.tail.read_bytes() == torn[len(whole) :]
    assert left.cut_bytes == len(torn) - len(whole)
    assert [again.cut_bytes for again in after_restart(spool).interrupted()] == [0]


class NoRoomForTheRest(SystemFiles):
    """A disk that has room for what is cut off, and then for nothing else."""

    def replace(self, source, target):
        if target.parent.name != SET_ASIDE:
            raise TransientError("the disk is full")
        super().replace(source, target)


def test_tail_is_kept_once_however_often_the_rest_finds_no_room(spool):
    recording = spool.open(CALL, METADATA)
    recording.append(b"whole", force=True)
    recording.append(NOISE, force=True)
    recording.path.write_bytes(recording.path.read_bytes()[:-100])
    full = Spool(spool.directory, files=NoRoomForTheRest())
    assert [full.interrupted() for _ in range(3)] == [[], [], []]
    assert len(list((spool.directory / SET_ASIDE).iterdir())) == 1
    (left,) = after_restart(spool).interrupted()
    assert left.received == b"whole"
    assert list((spool.directory / SET_ASIDE).iterdir()) == [left.tail]


@pytest.mark.parametrize("seed", range(8))
def test_left_over_with_a_flipped_bit_is_cut_there_and_the_rest_kept(spool, seed):
    recording = spool.open(CALL, METADATA)
    recording.append(b"whole", force=True)
    whole = recording.path.read_bytes()
    recording.append(NOISE, force=True)
    recording.append(b"more", force=True)
    rng, data = random.Random(seed), bytearray(recording.path.read_bytes())
    data[rng.randrange(len(whole), len(whole) + len(NOISE))] ^= 1 << rng.randrange(8)
    recording.path.write_bytes(data)
    (left,) = after_restart(spool).interrupted()
    assert left.received == b"whole"
    assert left.tail.read_bytes() == data[len(whole) :]


def test_cutting_a_tail_does_not_touch_a_blob_that_shares_the_file(spool, tmp_path):
    recording = spool.open(CALL, METADATA)
    recording.append(NOISE)
    finished = recording.finish()
    with finished.path.open("ab") as file:
        file.write(b"garbage")
    shared = tmp_path / "shared"
    shared.hardlink_to(finished.path)
    before = shared.read_bytes()
    (left,) = after_restart(spool).interrupted()
    assert left.received == NOISE
    assert shared.read_bytes() == before


def test_left_over_without_metadata_is_reported_empty(spool):
    recording = spool.open(CALL, METADATA)
    recording.path.write_bytes(encode(b"", METADATA)[:20])
    (left,) = after_restart(spool).interrupted()
    assert (left.call_id, left.metadata, left.received, left.cut_bytes) == (CALL, None, b"", 20)


def test_interrupted_recording_can_be_set_aside(spool):
    spool.open(CALL, METADATA).append(NOISE, force=True)
    (left,) = after_restart(spool).interrupted()
    place = spool.set_aside(left.path, "too short")
    assert decode(place.read_bytes()) == NOISE
    assert after_restart(spool).interrupted() == []


def test_what_is_being_recorded_is_not_taken_for_a_left_over(spool):
    recording = spool.open(CALL, METADATA)
    recording.append(NOISE, force=True)
    assert spool.interrupted() == []
    recording.finish()
    assert spool.interrupted() == []
    recording.close()
    assert [left.received for left in spool.interrupted()] == [NOISE]


def test_a_left_over_that_somebody_works_on_is_given_to_nobody_else(spool):
    spool.open(CALL, METADATA).close()
    (left,) = spool.interrupted()
    assert spool.interrupted() == []
    with pytest.raises(ConflictError):
        spool.open(CALL, METADATA)
    spool.release(left.path)
    assert len(spool.interrupted()) == 1


def test_a_left_over_is_given_only_after_it_was_idle_for_long_enough(spool):
    recording = spool.open(CALL, METADATA)
    recording.append(NOISE, force=True)
    recording.close()
    assert spool.interrupted(idle_for_s=3600) == []
    an_hour_ago = recording.path.stat().st_mtime - 3601
    os.utime(recording.path, (an_hour_ago, an_hour_ago))
    assert len(spool.interrupted(idle_for_s=3600)) == 1


def test_an_upload_begun_anew_sets_its_fragment_aside(spool):
    fragment = spool.open(CALL, METADATA)
    fragment.append(b"fragment", force=True)
    fragment.close()
    anew = spool.open(CALL, METADATA)
    anew.append(NOISE, force=True)
    (kept,) = (spool.directory / "set-aside").glob("*.zst")
    assert decode(kept.read_bytes()) == b"fragment"
    assert decode(anew.path.read_bytes()) == NOISE


def test_full_disk_is_transient_and_keeps_what_is_there(spool):
    with small_disk():
        recording = spool.open(CALL, METADATA)
        recording.append(b"kept", force=True)
        with pytest.raises(TransientError, match="the disk is full"):
            recording.append(NOISE, force=True)
        assert on_disk(recording) == b"kept"
        assert recording.path.read_bytes() == encode(b"kept", METADATA)


def test_recording_goes_on_when_the_disk_has_room_again(spool):
    with small_disk() as make_room:
        recording = spool.open(CALL, METADATA)
        recording.append(b"before ", force=True)
        with pytest.raises(TransientError):
            recording.append(NOISE, force=True)
        make_room()
        recording.append(b" after")
        finished = recording.finish()
        assert finished.read(max_bytes=10_000) == b"before " + NOISE + b" after"
        assert finished.blob_digest == hashlib.sha256(finished.path.read_bytes()).hexdigest()


def test_recording_on_a_full_disk_can_be_set_aside(spool):
    with small_disk():
        recording = spool.open(CALL, METADATA)
        recording.append(b"kept", force=True)
        with pytest.raises(TransientError):
            recording.append(NOISE)
        assert decode(recording.set_aside("disk full").read_bytes()) == b"kept"


def test_failed_sync_is_fatal_and_never_tried_again(spool, monkeypatch):
    attempts = []

    def failing(descriptor):
        attempts.append(descriptor)
        raise OSError(5, "Input/output error")

    recording = spool.open(CALL, METADATA)
    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(CorruptionError, match="could not confirm a write"):
        recording.append(b"x", force=True)
    with pytest.raises(ConflictError):
        recording.append(b"y", force=True)
    with pytest.raises(ConflictError):
        recording.finish()
    assert len(attempts) == 1
