"""Compression at rest: any bytes come back, and damage is named for what it is."""

import random
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sample_events import call_with_message
from ledger.errors import CorruptionError
from ledger.events import encode
from ledger.storage import compression
from ledger.storage.compression import MOST_EVENT_BYTES, compress, decompress

FRAME_OF_2026 = "28b52ffd2714ac9522307d000010317d037c009ca3d084bfa9274505756c599a"


def _events(seed: int) -> list[bytes]:
    rng = random.Random(seed)
    return [encode(event) for _ in range(100) for event in call_with_message(rng)]


@given(st.binary(max_size=5000))
def test_any_bytes_come_back(plain: bytes) -> None:
    assert decompress(compress(plain), 1) == plain


def test_events_take_less_than_half_of_their_room() -> None:
    plain = _events(99)

    assert sum(len(compress(event)) for event in plain) < sum(map(len, plain)) / 2


def test_frame_names_its_dictionary() -> None:
    frame = compress(b"{}")

    assert zstandard.get_frame_parameters(frame).dict_id == compression._dictionary(1).dict_id()


def test_shipped_dictionary_never_changes() -> None:
    # Frames on users' disks need these very bytes: a new dictionary gets a new number.
    frame = bytes.fromhex(FRAME_OF_2026)

    assert decompress(frame, 1) == b'{"event":"call-received","originator_version":1}'


def test_unknown_dictionary_is_named_as_such_with_advice() -> None:
    other = zstandard.train_dictionary(2000, [b"something else %d" % n * 3 for n in range(500)])
    frame = zstandard.ZstdCompressor(dict_data=other).compress(b"something else 7")

    with pytest.raises(CorruptionError, match="position 12") as caught:
        decompress(frame, 12)

    assert "dictionary" in caught.value.message
    assert "newest version" in caught.value.advice


@pytest.mark.parametrize("frame", [b"", b"not a frame at all", b"\x28\xb5\x2f\xfd"])
def test_what_is_no_frame_is_corrupt(frame: bytes) -> None:
    with pytest.raises(CorruptionError, match="position 12"):
        decompress(frame, 12)


@given(st.data())
def test_cut_frame_is_corrupt(data: st.DataObject) -> None:
    frame = compress(_events(1)[0])
    cut = data.draw(st.integers(0, len(frame) - 1))

    with pytest.raises(CorruptionError):
        decompress(frame[:cut], 1)


@pytest.mark.parametrize("claimed_bytes", [MOST_EVENT_BYTES + 1, 1 << 60])
def test_frame_that_claims_to_be_huge_is_refused_without_the_memory(claimed_bytes: int) -> None:
    # A header by hand: magic, a descriptor for an 8-byte size and the dictionary's id, window.
    number = compression._dictionary(1).dict_id()
    header = b"\x28\xb5\x2f\xfd" + struct.pack("<BBIQ", 0xC3, 0x58, number, claimed_bytes)
    assert zstandard.get_frame_parameters(header).content_size == claimed_bytes

    with pytest.raises(CorruptionError, match="larger than any event"):
        decompress(header + compress(b"{}")[9:], 1)


@given(st.data())
def test_flipped_bit_is_never_taken_for_an_event(data: st.DataObject) -> None:
    frame = bytearray(compress(_events(1)[0]))
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8

    try:
        plain = decompress(bytes(frame), 1)
    except CorruptionError:
        return
    assert plain == _events(1)[0]


def test_threads_do_not_share_contexts() -> None:
    events = _events(5)

    def round_trip(start: int) -> bool:
        mine = events[start::4]
        return all(decompress(compress(event), 0) == event for event in mine * 5)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(round_trip, range(4)))
