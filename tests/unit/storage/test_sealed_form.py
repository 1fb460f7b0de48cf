"""The sealed form gives back exactly what was written, or says where it is damaged."""

import os
import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import CorruptionError
from ledger.sealing import MessageKey
from ledger.storage.sealed_form import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    SEGMENT_OVERHEAD_BYTES,
    SealedFormWriter,
    read_key_id,
    seal,
    sealed_prefix,
    unseal,
)

CALL = UUID(int=7)
KEY = MessageKey(CALL, bytes(range(32)))


def written(pieces: list[bytes]) -> list[bytes]:
    """Seal these pieces as they are written: header first, the end last."""
    writer = SealedFormWriter(KEY, os.urandom)
    return [writer.header(), *(writer.add(piece) for piece in pieces), writer.finish()]


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_pieces_come_back_as_one(pieces: list[bytes]):
    assert unseal(b"".join(written(pieces)), KEY) == b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES])
def test_any_size_comes_back_at_a_small_price(size):
    plain = random.Random(size).randbytes(size)
    sealed = seal(plain, KEY, os.urandom)

    assert unseal(sealed, KEY) == plain
    segments = -(-size // SEGMENT_BYTES) + 1
    assert len(sealed) == size + HEADER_BYTES + segments * SEGMENT_OVERHEAD_BYTES


def test_same_recording_sealed_twice_has_nothing_in_common():
    plain = bytes(1_000)
    first, second = (seal(plain, KEY, os.urandom)[HEADER_BYTES:] for _ in range(2))

    assert not {first[at : at + 8] for at in range(4, 900)} & {
        second[at : at + 8] for at in range(4, 900)
    }
    assert bytes(8) not in first


def test_flipped_bit_of_any_byte_is_found():
    sealed = b"".join(written([b"one", b"two"]))
    for at in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(CorruptionError):
            unseal(bytes(damaged), KEY)


def test_cut_anywhere_is_found():
    sealed = b"".join(written([b"one", b"two"]))
    for length in range(len(sealed)):
        with pytest.raises(CorruptionError):
            unseal(sealed[:length], KEY)


def test_segments_that_are_swapped_doubled_or_left_out_are_found():
    header, one, two, end = written([b"one", b"two"])
    for segments in ([two, one, end], [one, one, two, end], [one, end], [one, two, end, end]):
        with pytest.raises(CorruptionError):
            unseal(b"".join([header, *segments]), KEY)


def test_segment_of_another_recording_of_the_same_message_is_found():
    header, one, two, end = written([b"one", b"two"])
    _, other, _, _ = written([b"one", b"two"])

    with pytest.raises(CorruptionError, match="segment 0"):
        unseal(b"".join([header, other, two, end]), KEY)
    assert unseal(b"".join([header, one, two, end]), KEY) == b"onetwo"


def test_anything_behind_the_end_is_found():
    with pytest.raises(CorruptionError):
        unseal(seal(b"sound", KEY, os.urandom) + b"x", KEY)


def test_other_key_opens_nothing_and_is_named():
    sealed = seal(b"sound", KEY, os.urandom)

    with pytest.raises(CorruptionError, match="segment 0"):
        unseal(sealed, MessageKey(CALL, bytes(32)))
    with pytest.raises(CorruptionError, match=str(UUID(int=8))):
        unseal(sealed, MessageKey(UUID(int=8), KEY.secret))


def test_length_that_lies_is_not_believed():
    sealed = bytearray(seal(b"sound", KEY, os.urandom))
    sealed[HEADER_BYTES : HEADER_BYTES + 4] = b"\xff" * 4

    with pytest.raises(CorruptionError):
        unseal(bytes(sealed), KEY)


def test_sealed_form_names_its_key():
    assert read_key_id(seal(b"sound", KEY, os.urandom)) == CALL
    with pytest.raises(CorruptionError):
        read_key_id(b"\x50\x2a\x4d\x18" + bytes(100))


def test_form_that_a_crash_cut_gives_its_whole_segments():
    pieces = [b"one", b"three", b"five"]
    parts = written(pieces)
    sealed = b"".join(parts)
    ends = [sum(map(len, parts[: count + 1])) for count in range(len(parts))]
    for length in range(len(sealed) + 1):
        prefix = sealed_prefix(sealed[:length], KEY)
        whole = sum(end <= length for end in ends)
        assert prefix.plain == b"".join(pieces[: max(whole - 1, 0)])
        assert prefix.length_bytes == (ends[whole - 1] if whole else 0)
        assert prefix.is_finished == (length == len(sealed))


def test_damaged_segment_ends_the_prefix():
    parts = written([b"one", b"two"])
    sealed = bytearray(b"".join(parts))
    sealed[len(parts[0]) + len(parts[1]) + 6] ^= 1

    prefix = sealed_prefix(bytes(sealed), KEY)

    assert prefix == (b"one", len(parts[0]) + len(parts[1]), False)
