"""G.711 by tables: exact where the standard allows it."""

import io

import numpy as np
import pytest
import soundfile

from ledger.audio import g711

ALL_CODES = bytes(range(256))
ALL_SAMPLES = np.arange(65_536, dtype=np.uint16).view(np.int16)


def by_libsndfile(codes, subtype):
    return soundfile.read(
        io.BytesIO(codes),
        dtype="int16",
        format="RAW",
        subtype=subtype,
        samplerate=8000,
        channels=1,
    )[0]


@pytest.mark.parametrize(("codec", "subtype"), [("pcmu", "ULAW"), ("pcma", "ALAW")])
def test_every_code_decodes_as_in_libsndfile(codec, subtype):
    assert g711.decode(ALL_CODES, codec).tolist() == by_libsndfile(ALL_CODES, subtype).tolist()


def test_all_alaw_codes_survive_decoding_and_encoding():
    assert g711.encode(g711.decode(ALL_CODES, "pcma"), "pcma") == ALL_CODES


def test_all_ulaw_codes_but_negative_zero_survive_decoding_and_encoding():
    again = g711.encode(g711.decode(ALL_CODES, "pcmu"), "pcmu")
    assert [(a, b) for a, b in zip(ALL_CODES, again, strict=True) if a != b] == [(0x7F, 0xFF)]


def encoded_by_libsndfile(samples, subtype):
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 8000, 1, format="RAW", subtype=subtype) as file:
        file.write(samples)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def test_every_sample_is_encoded_in_ulaw_as_in_libsndfile():
    ours = np.frombuffer(g711.encode(ALL_SAMPLES, "pcmu"), np.uint8)
    assert (ours == encoded_by_libsndfile(ALL_SAMPLES, "ULAW")).all()


def test_every_sample_is_encoded_in_alaw_as_in_libsndfile_but_on_decision_levels():
    ours = np.frombuffer(g711.encode(ALL_SAMPLES, "pcma"), np.uint8)
    other = ALL_SAMPLES[ours != encoded_by_libsndfile(ALL_SAMPLES, "ALAW")]
    assert len(other) == 127
    assert ((other < 0) & (other % 16 == 0)).all()


@pytest.mark.parametrize(
    ("table", "source", "target"),
    [(g711.ULAW_TO_ALAW, "pcmu", "pcma"), (g711.ALAW_TO_ULAW, "pcma", "pcmu")],
)
def test_law_to_law_is_the_way_through_samples(table, source, target):
    assert ALL_CODES.translate(table) == g711.encode(g711.decode(ALL_CODES, source), target)
