"""What a recording is, and every way in which it is not one."""

import contextlib
import hashlib
import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from ledger.audio import soundfile_codec
from ledger.audio.errors import (
    AudioError,
    BrokenAudioError,
    ContradictoryTypeError,
    EmptyAudioError,
    TooLongError,
    TooShortError,
    TruncatedAudioError,
    UnsupportedAudioError,
)
from ledger.audio.probe import AudioLimits, content_type_of_file, probe
from tests.support.recordings import encoded, speech, speech_codes

LENGTH_MS = 2_990
CONTAINERS = {
    "wav-ulaw": (speech, "audio/wav", "wav", "pcmu"),
    "wav-alaw": (lambda: encoded("WAV", "ALAW"), "audio/x-wav", "wav", "pcma"),
    "wav-8": (lambda: encoded("WAV", "PCM_U8"), "audio/wave", "wav", "pcm_u8"),
    "wav-16": (lambda: encoded("WAV", "PCM_16"), "audio/vnd.wave", "wav", "pcm_s16le"),
    "wav-24": (lambda: encoded("WAV", "PCM_24"), "audio/wav", "wav", "pcm_s24le"),
    "wavex-16": (lambda: encoded("WAVEX", "PCM_16"), "audio/wav", "wav", "pcm_s16le"),
    "wav49": (lambda: encoded("WAV", "GSM610"), "audio/wav", "wav", "gsm"),
    "flac": (lambda: encoded("FLAC", "PCM_16"), "audio/flac", "flac", "flac"),
    "opus": (lambda: encoded("OGG", "OPUS"), "audio/ogg; codecs=opus", "ogg", "opus"),
    "mp3": (lambda: encoded("MP3", "MPEG_LAYER_III"), "audio/mpeg", "mp3", "mp3"),
}
every_container = pytest.mark.parametrize("name", CONTAINERS)


def data_of(name):
    return CONTAINERS[name][0]()


@every_container
@pytest.mark.parametrize("declares", [True, False])
def test_container_is_recognised_and_measured(name, declares):
    make, content_type, container, codec = CONTAINERS[name]
    facts = probe(make(), content_type if declares else None)
    assert (facts.container, facts.codec) == (container, codec)
    assert (facts.sample_rate_hz, facts.channels) == (8_000, 1)
    assert abs(facts.duration_ms - LENGTH_MS) <= (20 if codec == "gsm" else 0)
    assert facts.size_bytes == len(make())
    assert facts.digest == hashlib.sha256(make()).hexdigest()


@pytest.mark.parametrize(
    ("content_type", "codec", "rate_hz", "channels"),
    [
        ("audio/basic", "pcmu", 8_000, 1),
        ("audio/PCMU", "pcmu", 8_000, 1),
        ("audio/PCMU;rate=8000", "pcmu", 8_000, 1),
        ('AUDIO/pcma; rate="8000"', "pcma", 8_000, 1),
        ("audio/PCMA; rate=16000; channels=2", "pcma", 16_000, 2),
    ],
)
def test_raw_codes_are_what_they_are_declared_to_be(content_type, codec, rate_hz, channels):
    facts = probe(speech_codes(codec), content_type)
    assert (facts.container, facts.codec) == ("raw", codec)
    assert (facts.sample_rate_hz, facts.channels) == (rate_hz, channels)
    assert facts.duration_ms == round(len(speech_codes()) * 1000 / rate_hz / channels)


@pytest.mark.parametrize("silence", [b"\xff", b"\x7f", b"\xd5", b"\x00", b"\xff\xfb"])
def test_raw_silence_is_taken_for_no_other_format(silence):
    assert probe(silence * 8_000, "audio/PCMU").container == "raw"


@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_stereo_is_measured_by_the_channel(container):
    facts = probe(encoded(container, "PCM_16", channels=2, rate_hz=16_000), None)
    assert (facts.channels, facts.sample_rate_hz) == (2, 16_000)
    assert facts.duration_ms == LENGTH_MS / 2


def test_declared_type_that_contradicts_the_bytes_names_both():
    with pytest.raises(ContradictoryTypeError, match=r"audio/PCMU;rate=8000 .* a WAV file"):
        probe(speech(), "audio/PCMU;rate=8000")
    with pytest.raises(ContradictoryTypeError, match=r"audio/mpeg .* an Ogg file"):
        probe(data_of("opus"), "audio/mpeg")


def test_raw_codes_declared_as_a_container_are_a_contradiction():
    with pytest.raises(ContradictoryTypeError, match=r"audio/wav .* begin with ffff"):
        probe(b"\xff" * 8_000, "audio/wav")


def test_undeclared_bytes_of_no_known_format_are_not_guessed_at():
    with pytest.raises(UnsupportedAudioError, match="must be declared, as audio/PCMU"):
        probe(speech_codes(), None)
    with pytest.raises(UnsupportedAudioError, match="must be declared"):
        probe(speech_codes(), "application/octet-stream")


@pytest.mark.parametrize("content_type", ["text/plain", "audio/AMR", "nonsense", "video/mp4"])
def test_type_that_is_no_recording_is_refused_with_those_that_are(content_type):
    with pytest.raises(UnsupportedAudioError, match=f"{content_type}.*send audio/PCMU"):
        probe(speech(), content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "audio/PCMU;rate=fast",
        "audio/PCMU;rate=0",
        "audio/PCMU;rate=" + "9" * 5000,
        "audio/PCMU;channels=9",
    ],
)
def test_senseless_parameters_are_refused(content_type):
    with pytest.raises(UnsupportedAudioError):
        probe(speech_codes(), content_type)


def test_sun_audio_is_refused_though_declared_as_basic():
    with pytest.raises(ContradictoryTypeError, match="Sun AU"):
        probe(encoded("AU", "ULAW"), "audio/basic")
    with pytest.raises(UnsupportedAudioError, match="Sun AU"):
        probe(encoded("AU", "ULAW"), None)


@pytest.mark.parametrize("subtype", ["FLOAT", "MS_ADPCM", "PCM_32"])
def test_other_codecs_in_wav_are_refused_by_number(subtype):
    with pytest.raises(UnsupportedAudioError, match="holds codec 0x"):
        probe(encoded("WAV", subtype), None)


def test_vorbis_in_ogg_is_refused():
    with pytest.raises(UnsupportedAudioError, match="no Opus"):
        probe(encoded("OGG", "VORBIS"), None)


def test_no_bytes_are_empty():
    with pytest.raises(EmptyAudioError):
        probe(b"", "audio/PCMU")


def test_containers_without_sound_are_empty():
    silent_wav = speech()[:54] + bytes(4)
    silent_wav = silent_wav[:4] + struct.pack("<I", len(silent_wav) - 8) + silent_wav[8:]
    with pytest.raises(EmptyAudioError):
        probe(silent_wav, None)


@every_container
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_cut_file_is_truncated(name, kept):
    data = data_of(name)
    with pytest.raises(TruncatedAudioError, match="the recording is cut"):
        probe(data[: int(len(data) * kept)], None)


@every_container
def test_file_that_lacks_its_last_bytes_is_truncated(name):
    with pytest.raises(TruncatedAudioError):
        probe(data_of(name)[:-3], None)


@every_container
def test_cut_file_is_tolerated_after_a_crash(name):
    data = data_of(name)
    _, content_type, container, codec = CONTAINERS[name]
    facts = probe(data[: len(data) // 2], content_type, tolerate_truncation=True)
    assert (facts.container, facts.codec) == (container, codec)
    assert 0 < facts.duration_ms < LENGTH_MS
    assert facts.size_bytes == len(data) // 2


@given(st.binary(max_size=200), st.sampled_from([None, "audio/PCMU", "audio/wav", "rubbish"]))
def test_remains_of_a_crash_never_raise(data, content_type):
    for candidate in (data, *(data_of(n)[: len(data)] + data for n in CONTAINERS)):
        facts = probe(candidate, content_type, tolerate_truncation=True)
        assert facts.size_bytes == len(candidate)
        assert facts.container != "unknown" or facts.duration_ms == 0


@given(st.data())
def test_any_bytes_give_facts_or_an_audio_error(data):
    base = bytearray(data_of(data.draw(st.sampled_from(sorted(CONTAINERS)))))
    for _ in range(data.draw(st.integers(1, 4))):
        base[data.draw(st.integers(0, 200))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(AudioError):
        assert probe(bytes(base), None).size_bytes == len(base)


def test_remains_that_nothing_can_decode_are_unknown():
    facts = probe(b"RIFF\0\0\0\0WAVEfmt ", None, tolerate_truncation=True)
    assert (facts.container, facts.codec, facts.duration_ms) == ("unknown", "unknown", 0)


@pytest.mark.parametrize("name", ["flac", "opus", "mp3"])
def test_damage_in_the_middle_is_noticed(name):
    data = bytearray(data_of(name))
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    with pytest.raises(BrokenAudioError):
        probe(bytes(data), None)


def test_flac_that_decodes_to_other_samples_is_broken():
    data = bytearray(data_of("flac"))
    data[26] ^= 1  # the MD5 of the samples
    with pytest.raises(BrokenAudioError, match="other samples than were encoded"):
        probe(bytes(data), None)


def test_missing_page_of_an_ogg_file_is_noticed():
    data = data_of("opus")
    pages = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
    with pytest.raises(BrokenAudioError, match="has page 3 in place 2"):
        probe(data[: pages[2]] + data[pages[3] :], None)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0])
def test_wav_that_was_written_to_a_pipe_goes_to_its_end(length):
    data = bytearray(speech())
    data[4:8] = data[54:58] = struct.pack("<I", length)
    facts = probe(bytes(data), None)
    assert (facts.codec, facts.duration_ms) == ("pcmu", LENGTH_MS)


def test_chunks_around_the_sound_of_a_wav_file_do_not_matter():
    form, rest = speech()[12:38], speech()[38:]
    note = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    data = b"RIFF" + bytes(4) + b"WAVE" + note + form + note + rest + note
    assert probe(data, None).duration_ms == LENGTH_MS


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:12] + d[58:],
        lambda d: d[:22] + b"\0\0" + d[24:],
        lambda d: d[:24] + bytes(4) + d[28:],
        lambda d: d[:32] + b"\7\0" + d[34:],
    ],
)
def test_wav_header_that_makes_no_sense_is_broken(damage):
    with pytest.raises(BrokenAudioError):
        probe(damage(speech()), None)


@pytest.mark.parametrize("rate_hz", [1, 999, 192_001, 2**32 - 1])
def test_rate_that_nothing_could_play_is_refused_and_unknown_after_a_crash(rate_hz):
    data = speech()[:24] + rate_hz.to_bytes(4, "little") + speech()[28:]
    with pytest.raises(UnsupportedAudioError, match=f"of {rate_hz} Hz is not taken"):
        probe(data, None)
    assert probe(data, None, tolerate_truncation=True).container == "unknown"


def test_file_that_decodes_to_more_than_there_is_room_for_is_too_long(monkeypatch):
    monkeypatch.setattr(soundfile_codec, "MOST_SAMPLES", 16_000)
    silence = encoded_silence(3)
    with pytest.raises(TooLongError, match="more than 16000 samples"):
        probe(silence, None)
    assert probe(silence, None, tolerate_truncation=True).container == "unknown"


def test_mp3_with_tags_before_and_after_is_measured():
    tag = b"ID3\x04\0\0" + bytes([0, 0, 1, 0]) + bytes(128)
    data = tag + data_of("mp3") + b"TAG" + bytes(125)
    assert probe(data, "audio/mpeg").duration_ms == LENGTH_MS


@pytest.fixture
def piped_flac():
    data = bytearray(data_of("flac"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def test_flac_that_was_written_to_a_pipe_is_measured(piped_flac):
    assert probe(piped_flac, None).duration_ms == LENGTH_MS
    with pytest.raises(TooLongError):
        probe(piped_flac, None, limits=AudioLimits(max_duration_ms=1_000))
    with pytest.raises(TruncatedAudioError):
        probe(piped_flac[:-3], None)


@every_container
def test_limits_are_kept(name):
    data = data_of(name)
    with pytest.raises(TooShortError, match="messages begin at 5000 ms"):
        probe(data, None, limits=AudioLimits(min_duration_ms=5_000))
    with pytest.raises(TooLongError, match="at most 1000 ms"):
        probe(data, None, limits=AudioLimits(max_duration_ms=1_000))
    assert probe(data, None, limits=AudioLimits(2_900, 3_100)).duration_ms


def test_too_long_flac_is_refused_before_it_is_unpacked():
    silence = encoded_silence(3_600)
    assert len(silence) < 100_000
    with pytest.raises(TooLongError):
        probe(silence[:1_000], None, limits=AudioLimits(max_duration_ms=60_000))


def encoded_silence(seconds):
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", 8000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(seconds):
            file.write(np.zeros(8000, np.int16))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("file_name", "content_type"),
    [
        ("message.WAV", "audio/wav"),
        ("a/b.ulaw", "audio/PCMU;rate=8000"),
        ("x.al", "audio/PCMA;rate=8000"),
        ("x.opus", "audio/ogg"),
        ("x.txt", None),
        ("x", None),
    ],
)
def test_extension_stands_for_a_type(file_name, content_type):
    assert content_type_of_file(file_name) == content_type
