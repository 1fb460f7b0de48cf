"""The bytes between servers: what is written is read, and nothing else is."""

import hashlib
from uuid import UUID

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import PeerError
from ledger.migration import wire, wire_bytes
from ledger.migration.wire import (
    BatchHeader,
    BlobEntry,
    Busy,
    ContactRequest,
    MissingRequest,
    Parcel,
    WireEvent,
)
from ledger.migration.wire_bytes import (
    decode_answer,
    decode_batch,
    decode_request,
    encode_answer,
    encode_batch,
    encode_request,
)

ROOT = "a" * 64
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def batch_of(plains: list[bytes], blobs: list[bytes]) -> bytes:
    digests = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    parcels = tuple(
        Parcel(position=n, events=(WireEvent(n, msgspec.Raw(plain)),), blobs=tuple(digests[:1]))
        for n, plain in enumerate(plains, 1)
    )
    header = BatchHeader(
        origin="alpha",
        home="bravo",
        incarnation=UUID(int=1),
        contact="n",
        after_position=0,
        after_root=ROOT,
        through_position=len(plains),
        through_root=ROOT,
        parcels=parcels,
        blobs=tuple(BlobEntry(d, len(b)) for d, b in zip(digests, blobs, strict=True)),
    )
    return encode_batch(header, blobs)


SMALL = batch_of([b'{"event":"x","n":1}', b'{"event":"y"}'], [b"sound" * 5, b"z"])


def content(data: bytes) -> tuple:
    header, blobs = decode_batch(data, "alpha")
    events = [[(e.position, bytes(e.plain)) for e in p.events] for p in header.parcels]
    return msgspec.structs.replace(header, parcels=()), events, blobs


@settings(deadline=None)
@given(
    st.lists(JSON.map(msgspec.json.encode), max_size=5),
    st.lists(st.binary(min_size=1, max_size=200), max_size=4, unique=True),
)
def test_batch_comes_out_as_it_went_in_byte_for_byte(plains, blobs):
    _, events, found = content(batch_of(plains, blobs))
    assert [plain for parcel in events for _, plain in parcel] == plains
    assert list(found.values()) == blobs


@pytest.mark.parametrize("length", range(len(SMALL)))
def test_cut_batch_is_refused(length):
    with pytest.raises(PeerError):
        decode_batch(SMALL[:length], "alpha")


@settings(deadline=None, max_examples=500)
@given(st.integers(0, len(SMALL) * 8 - 1))
def test_flipped_bit_is_refused_or_means_the_same(bit):
    flipped = bytearray(SMALL)
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        found = content(bytes(flipped))
    except PeerError:
        return
    assert found == content(SMALL)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    for start in (b"", b"VMLb\x01", b"VMLa\x01", b"VMLr\x01"):
        for read in (decode_batch, decode_answer, decode_request):
            with pytest.raises(PeerError):
                read(start + data, "alpha")


def test_bytes_after_a_message_are_refused():
    for data in (SMALL, encode_answer(Busy(retry_after_s=1))):
        read = decode_batch if data is SMALL else decode_answer
        read(data, "alpha")
        with pytest.raises(PeerError):
            read(data + b"x", "alpha")


def test_questions_and_answers_come_out_as_they_went_in():
    request = ContactRequest(
        origin="alpha", home="bravo", incarnation=UUID(int=2), position=7, nonce="n"
    )
    assert decode_request(encode_request(request), "alpha") == request
    assert decode_answer(encode_answer(Busy(retry_after_s=1.5)), "bravo") == Busy(retry_after_s=1.5)


def test_answer_is_not_taken_for_a_question():
    with pytest.raises(PeerError, match="expected kind"):
        decode_request(encode_answer(Busy(retry_after_s=1)), "alpha")


def test_message_of_another_version_says_so():
    data = bytearray(encode_answer(Busy(retry_after_s=1)))
    data[4] = 2
    with pytest.raises(PeerError, match="version 2"):
        decode_answer(bytes(data), "bravo")


def test_unknown_field_is_refused():
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(
        b'{"type":"busy","retry_after_s":1,"surprise":2}'
    )
    with pytest.raises(PeerError, match="surprise"):
        decode_answer(b"VMLa\x01" + len(frame).to_bytes(4, "big") + frame, "bravo")


def test_lists_thousands_deep_are_refused():
    plain = b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
    with pytest.raises(PeerError, match="cannot be read"):
        decode_batch(batch_of([plain], []), "alpha")


def test_frame_that_would_fill_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(wire_bytes, "MAX_HEADER_BYTES", 1000)
    bomb = encode_request(MissingRequest(digests=(ROOT,) * 100))
    assert len(bomb) < 1000
    with pytest.raises(PeerError, match="too large"):
        decode_request(bomb, "alpha")


def test_frame_without_a_checksum_is_refused():
    frame = zstandard.ZstdCompressor().compress(b'{"type":"busy","retry_after_s":1}')
    with pytest.raises(PeerError, match="checksum"):
        decode_answer(b"VMLa\x01" + len(frame).to_bytes(4, "big") + frame, "bravo")


def test_blob_that_is_not_what_its_digest_says_is_refused():
    damaged = SMALL[:-1] + b"!"
    with pytest.raises(PeerError, match="damaged on its way"):
        decode_batch(damaged, "alpha")


@pytest.mark.parametrize("text", [b'[{}, "bravo", null]', b"[{}, null, 5]"])
def test_copied_event_has_an_origin_and_a_position_there_or_neither(text):
    with pytest.raises(msgspec.ValidationError, match="or neither"):
        msgspec.json.decode(text, type=wire.CopiedEvent)
