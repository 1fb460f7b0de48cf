"""The stored form: exact, bounded, and exact up to wherever it is cut."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from uuid import UUID

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.errors import CorruptionError
from ledger.storage.stored_form import (
    FRAME_BYTES,
    MAX_FRAME_BYTES,
    RecordingMetadata,
    StoredFormWriter,
    decode,
    encode,
    intact_prefix,
    read_metadata,
    walk_frames,
)

METADATA = RecordingMetadata(
    call_id=UUID(int=7),
    server="alpha",
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    content_type="audio/PCMU",
)
HEADER_ONLY = encode(b"", METADATA)

received_bytes = st.one_of(
    st.binary(max_size=300),
    st.integers(0, 3 * MAX_FRAME_BYTES).map(lambda n: b"\xff\x7e" * (n // 2)),
    st.tuples(st.integers(0, 40_000), st.integers()).map(lambda s: noise(*s)),
)


def noise(length, seed):
    block = hashlib.sha256(str(seed).encode()).digest()
    return b"".join(hashlib.sha256(block + bytes([i % 256])).digest() for i in range(length // 32))


def resealed(content, **options):
    """A stored form whose only audio frame was made by another writer."""
    return HEADER_ONLY + zstandard.ZstdCompressor(**options).compress(content)


@given(received_bytes)
def test_decoding_gives_the_received_bytes(received):
    assert decode(encode(received, METADATA)) == received


@given(st.lists(received_bytes, max_size=5))
def test_digests_of_the_writer_are_those_of_what_it_took_and_gave(pieces):
    writer = StoredFormWriter(METADATA)
    stored = writer.header() + b"".join([writer.add(p) for p in pieces]) + writer.flush()
    received = b"".join(pieces)
    assert decode(stored) == received
    assert writer.received_digest == hashlib.sha256(received).hexdigest()
    assert writer.stored_digest == hashlib.sha256(stored).hexdigest()
    assert writer.received_size_bytes == len(received)
    assert writer.stored_size_bytes == len(stored)


@given(received_bytes, st.data())
@settings(max_examples=200)
def test_any_truncation_leaves_an_exact_prefix(received, data):
    stored = encode(received, METADATA)
    cut = data.draw(st.integers(0, len(stored)))
    prefix = intact_prefix(stored[:cut])
    assert received.startswith(prefix.received)
    assert prefix.length_bytes <= cut
    if prefix.length_bytes:
        assert decode(stored[: prefix.length_bytes]) == prefix.received


def test_truncation_at_every_byte_keeps_every_whole_frame():
    writer = StoredFormWriter(METADATA)
    stored, ends = writer.header(), []
    for piece in (b"one", b"two" * 50, noise(200, 1)):
        writer.add(piece)
        stored += writer.flush()
        ends.append((len(stored), writer.received_size_bytes))
    received = decode(stored)
    for cut in range(len(HEADER_ONLY), len(stored) + 1):
        kept = max((n for end, n in ends if end <= cut), default=0)
        assert intact_prefix(stored[:cut]).received == received[:kept]


@given(received_bytes.filter(bool), st.data())
@settings(max_examples=200)
def test_flipped_bit_after_the_metadata_is_noticed(received, data):
    stored = bytearray(encode(received, METADATA))
    at = data.draw(st.integers(len(HEADER_ONLY), len(stored) - 1))
    stored[at] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(CorruptionError):
        assert decode(bytes(stored)) == received  # an unused bit of the frame header


@given(st.binary(max_size=400))
@example(HEADER_ONLY)
@example(b"")
def test_arbitrary_bytes_never_crash_the_reader(data):
    for candidate in (data, HEADER_ONLY + data, HEADER_ONLY + b"\x28\xb5\x2f\xfd" + data):
        prefix = intact_prefix(candidate)
        if prefix.length_bytes == len(candidate) and candidate:
            assert decode(candidate) == prefix.received
        else:
            with pytest.raises(CorruptionError):
                decode(candidate)


def test_slow_input_becomes_a_frame_a_second():
    writer = StoredFormWriter(METADATA)
    given_back = [writer.add(noise(160, i)) for i in range(FRAME_BYTES // 160)]
    assert [bool(g) for g in given_back] == [False] * 49 + [True]
    assert writer.waiting_bytes == 0


def test_fast_input_becomes_frames_of_the_largest_size():
    frames = list(walk_frames(encode(noise(4 * MAX_FRAME_BYTES, 1), METADATA)))
    assert [f.content_size_bytes for f in frames] == [0] + [MAX_FRAME_BYTES] * 4


def test_metadata_comes_back_and_explains_itself():
    assert read_metadata(HEADER_ONLY) == METADATA
    document = json.loads(HEADER_ONLY[8:])
    assert document["format"] == "vmledger-stored-form-1"
    assert document["server"] == "alpha"


def test_metadata_of_a_later_version_with_more_fields_is_read():
    document = json.loads(HEADER_ONLY[8:]) | {"gaps": []}
    text = json.dumps(document).encode()
    later = HEADER_ONLY[:4] + len(text).to_bytes(4, "little") + text
    assert read_metadata(later) == METADATA


def test_more_than_the_limit_is_refused_before_it_is_unpacked():
    bomb = HEADER_ONLY + zstandard.ZstdCompressor(write_checksum=True).compress(bytes(4_000_000))
    assert len(bomb) < 2_000
    with pytest.raises(CorruptionError, match="frame 1 brings the recording above 1000000 bytes"):
        decode(bomb, max_bytes=1_000_000)


def test_frame_that_claims_gigabytes_is_refused():
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(bytes(100_000)))
    assert frame[4] >> 6 == 2
    at = 5 + (0 if frame[4] & 0x20 else 1)
    frame[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(CorruptionError, match="claims to hold 4294967295 bytes"):
        decode(HEADER_ONLY + bytes(frame))


def test_frame_without_a_checksum_is_no_evidence():
    with pytest.raises(CorruptionError, match=r"frame 1 at byte .* carries no checksum"):
        decode(resealed(b"abc", write_checksum=False))


def test_frame_that_claims_to_hold_nothing_hides_nothing():
    stored = bytearray(encode(b"x", METADATA))
    assert stored[len(HEADER_ONLY) + 5] == 1  # its content size
    stored[len(HEADER_ONLY) + 5] = 0
    with pytest.raises(CorruptionError, match=r"frame 1 at byte .* claims to hold nothing"):
        decode(bytes(stored))


def test_frame_without_a_content_size_is_refused():
    with pytest.raises(CorruptionError, match="does not say how much it holds"):
        decode(resealed(b"abc" * 900, write_checksum=True, write_content_size=False))


def test_damaged_frame_is_named_with_its_place():
    stored = bytearray(encode(noise(3 * MAX_FRAME_BYTES, 2), METADATA))
    second = list(walk_frames(bytes(stored)))[2]
    stored[second.start + 1000] ^= 1
    with pytest.raises(CorruptionError, match=r"frame 2 at byte \d+ is damaged.*\(at message 12\)"):
        decode(bytes(stored), place="message 12")


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the zstd program")
def test_standard_tool_opens_a_stored_form(tmp_path):
    path = tmp_path / "recording.zst"
    path.write_bytes(encode(noise(100_000, 3), METADATA))
    shown = subprocess.run(["zstd", "-dc", os.fspath(path)], capture_output=True, check=True)
    assert shown.stdout == noise(100_000, 3)


@pytest.mark.parametrize("document", [b'{"format":"\xe5"}', b"[" * 50_000], ids=["utf-8", "deep"])
def test_metadata_that_is_no_json_is_corruption(document):
    frame = b"\x50\x2a\x4d\x18" + len(document).to_bytes(4, "little") + document
    with pytest.raises(CorruptionError, match="no recording metadata"):
        read_metadata(frame)
