"""Recordings as they are played: exact where a law is kept, like the original elsewhere."""

import msgspec
import numpy as np
import pytest

from ledger.audio import g711
from ledger.audio.errors import AudioError, NotAcceptableError, UnsupportedAudioError
from ledger.audio.pcm import Pcm, decode
from ledger.audio.peaks import peaks
from ledger.audio.probe import probe
from ledger.audio.render import PlayFormat, media_type, negotiate, render
from ledger.audio.resample import resample
from ledger.errors import CallerError
from tests.support.recordings import (
    encoded,
    sndfile_samples,
    speech,
    speech_codes,
    speech_pcm,
)

RECORDINGS = {
    "raw-ulaw": (lambda: speech_codes("pcmu"), "audio/PCMU"),
    "raw-alaw": (lambda: speech_codes("pcma"), "audio/PCMA"),
    "wav-ulaw": (speech, None),
    "wav-8": (lambda: encoded("WAV", "PCM_U8"), None),
    "wav-16": (lambda: encoded("WAV", "PCM_16"), None),
    "wav-24": (lambda: encoded("WAV", "PCM_24"), None),
    "gsm": (lambda: encoded("WAV", "GSM610"), None),
    "flac": (lambda: encoded("FLAC", "PCM_16"), None),
    "opus": (lambda: encoded("OGG", "OPUS"), None),
    "mp3": (lambda: encoded("MP3", "MPEG_LAYER_III"), None),
}
every_recording = pytest.mark.parametrize("name", RECORDINGS)


def recording(name):
    make, content_type = RECORDINGS[name]
    return make(), probe(make(), content_type)


def likeness(one, other):
    """How much two recordings are the same sound: 1 at best, wherever an encoder shifted it."""
    a, b = np.asarray(one, float).ravel(), np.asarray(other, float).ravel()
    length = len(a) + len(b)
    across = np.fft.irfft(np.fft.rfft(a, length) * np.conj(np.fft.rfft(b, length)))
    return across.max() / np.sqrt((a @ a) * (b @ b))


@every_recording
def test_original_is_the_received_bytes(name):
    received, facts = recording(name)
    assert render(received, facts, PlayFormat.ORIGINAL) == received


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
def test_law_is_played_code_by_code_behind_58_bytes(codec):
    name = {"pcmu": "raw-ulaw", "pcma": "raw-alaw"}[codec]
    received, facts = recording(name)
    played = render(received, facts, PlayFormat.WAV_LAW)
    assert played[58:] == received
    again = probe(played, "audio/wav")
    assert (again.codec, again.duration_ms) == (codec, facts.duration_ms)
    assert (sndfile_samples(played)[0][:, 0] == g711.decode(received, codec)).all()


def test_odd_number_of_codes_is_padded_to_an_even_file():
    facts = probe(b"\x12\x34\x56", "audio/PCMU")
    played = render(b"\x12\x34\x56", facts, PlayFormat.WAV_LAW)
    assert len(played) == 62
    assert probe(played, None).duration_ms == facts.duration_ms
    assert len(sndfile_samples(played)[0]) == 3


@pytest.mark.parametrize("name", ["raw-ulaw", "raw-alaw", "wav-ulaw", "wav-16", "wav-24", "flac"])
def test_samples_are_exact_for_exact_codecs(name):
    received, facts = recording(name)
    played, rate_hz = sndfile_samples(render(received, facts, PlayFormat.WAV_PCM16))
    expected = g711.decode(speech_codes("pcma"), "pcma") if facts.codec == "pcma" else speech_pcm()
    assert rate_hz == 8_000
    assert (played[:, 0] == expected).all()


@every_recording
@pytest.mark.parametrize("play_format", [PlayFormat.WAV_PCM16, PlayFormat.MP3, PlayFormat.OGG_OPUS])
def test_every_recording_sounds_alike_in_every_form(name, play_format):
    received, facts = recording(name)
    played, _ = sndfile_samples(render(received, facts, play_format))
    assert likeness(played, speech_pcm()) > (0.9 if name in {"opus", "gsm", "mp3"} else 0.95)


@pytest.mark.parametrize(
    ("play_format", "container"),
    [
        (PlayFormat.WAV_LAW, "wav"),
        (PlayFormat.WAV_PCM16, "wav"),
        (PlayFormat.MP3, "mp3"),
        (PlayFormat.OGG_OPUS, "ogg"),
    ],
)
def test_rendered_form_is_a_sound_file_of_its_type(play_format, container):
    received, facts = recording("raw-ulaw")
    played = render(received, facts, play_format)
    again = probe(played, media_type(play_format, facts))
    assert again.container == container
    assert abs(again.duration_ms - facts.duration_ms) <= 100


def test_mp3_at_8_khz_has_24_kbit_a_second():
    received, facts = recording("raw-ulaw")
    kbits = len(render(received, facts, PlayFormat.MP3)) * 8 / facts.duration_ms
    assert 22 < kbits < 27


def test_stereo_and_odd_rates_are_brought_to_what_encoders_take():
    received = encoded("WAV", "PCM_16", channels=3, rate_hz=9_000)
    facts = probe(received, None)
    for play_format in (PlayFormat.MP3, PlayFormat.OGG_OPUS):
        played = render(received, facts, play_format)
        again = probe(played, None)
        assert again.channels == 1
        assert abs(again.duration_ms - facts.duration_ms) <= 150


def test_recovered_fragment_plays_as_far_as_it_goes():
    for name, (make, content_type) in RECORDINGS.items():
        fragment = make()[: len(make()) // 2]
        facts = probe(fragment, content_type, tolerate_truncation=True)
        played, rate_hz = sndfile_samples(render(fragment, facts, PlayFormat.WAV_PCM16))
        assert abs(len(played) * 1000 / rate_hz - facts.duration_ms) <= 300, name


def test_law_form_of_another_codec_is_refused():
    with pytest.raises(UnsupportedAudioError, match="flac has no"):
        render(*recording("flac"), PlayFormat.WAV_LAW)


def test_unknown_fragment_is_given_as_it_is_and_in_no_other_form():
    facts = probe(b"RIFF", None, tolerate_truncation=True)
    assert negotiate("*/*", facts) is PlayFormat.ORIGINAL
    assert media_type(PlayFormat.ORIGINAL, facts) == "application/octet-stream"
    with pytest.raises(NotAcceptableError):
        negotiate("audio/wav", facts)
    with pytest.raises(UnsupportedAudioError):
        render(b"RIFF", facts, PlayFormat.MP3)


@pytest.mark.parametrize("name", ["raw-ulaw", "wav-ulaw"])
@pytest.mark.parametrize("play_format", [PlayFormat.WAV_LAW, PlayFormat.WAV_PCM16, PlayFormat.MP3])
@pytest.mark.parametrize(
    "senseless", [{"channels": 0}, {"channels": 70_000}, {"sample_rate_hz": 999_999_937}]
)
def test_recording_of_which_an_event_says_nonsense_is_not_played(name, play_format, senseless):
    received, facts = recording(name)
    with pytest.raises(AudioError):
        render(received, msgspec.structs.replace(facts, **senseless), play_format)


@pytest.mark.parametrize("wrong", [{"channels": 3}, {"codec": "pcma"}])
def test_wav_file_of_which_an_event_says_something_else_is_not_played(wrong):
    facts = probe(speech(), "audio/wav")
    with pytest.raises(UnsupportedAudioError, match="fetch it as it is"):
        decode(speech(), msgspec.structs.replace(facts, **wrong))


@pytest.mark.parametrize(
    ("name", "accept", "chosen"),
    [
        ("raw-ulaw", None, PlayFormat.WAV_LAW),
        ("raw-ulaw", "", PlayFormat.WAV_LAW),
        ("raw-ulaw", "*/*", PlayFormat.WAV_LAW),
        ("raw-alaw", "audio/*", PlayFormat.WAV_LAW),
        ("raw-ulaw", "audio/wav", PlayFormat.WAV_LAW),
        ("raw-ulaw", "audio/x-wav;q=0.3, text/html", PlayFormat.WAV_LAW),
        ("raw-ulaw", "audio/mpeg", PlayFormat.MP3),
        ("raw-ulaw", "audio/ogg; codecs=opus", PlayFormat.OGG_OPUS),
        ("raw-ulaw", "audio/mpeg;q=0.5, audio/ogg", PlayFormat.OGG_OPUS),
        ("raw-ulaw", "audio/ogg, audio/mpeg", PlayFormat.MP3),
        ("raw-ulaw", "audio/wav;q=0, */*", PlayFormat.MP3),
        ("raw-ulaw", "audio/*;q=0.5, audio/mpeg", PlayFormat.MP3),
        ("raw-ulaw", "audio/wav;q*=utf-8''0, */*", PlayFormat.WAV_LAW),
        ("raw-ulaw", "audio/basic", PlayFormat.ORIGINAL),
        ("raw-ulaw", "audio/PCMU;rate=8000", PlayFormat.ORIGINAL),
        ("raw-ulaw", "audio/original", PlayFormat.ORIGINAL),
        ("raw-ulaw", "audio/original, */*;q=0.1", PlayFormat.ORIGINAL),
        ("wav-ulaw", "audio/wav", PlayFormat.ORIGINAL),
        ("wav-16", "*/*", PlayFormat.WAV_PCM16),
        ("gsm", "audio/wav", PlayFormat.WAV_PCM16),
        ("gsm", "audio/original", PlayFormat.ORIGINAL),
        ("flac", "*/*", PlayFormat.WAV_PCM16),
        ("flac", "audio/flac", PlayFormat.ORIGINAL),
        ("opus", "audio/ogg", PlayFormat.ORIGINAL),
        ("mp3", "audio/mpeg", PlayFormat.ORIGINAL),
        ("mp3", "audio/mpeg;q=0.2, audio/wav;q=0.9", PlayFormat.WAV_PCM16),
    ],
)
def test_listener_gets_what_it_accepts(name, accept, chosen):
    assert negotiate(accept, recording(name)[1]) is chosen


@pytest.mark.parametrize("accept", ["text/html", "*/*;q=0", "audio/mpeg;q=nonsense", "image/*"])
def test_listener_that_accepts_nothing_of_it_is_told_what_there_is(accept):
    with pytest.raises(NotAcceptableError, match=r"audio/wav, audio/mpeg, audio/ogg"):
        negotiate(accept, recording("raw-ulaw")[1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("raw-ulaw", "audio/basic"), ("raw-alaw", "audio/PCMA;rate=8000"), ("flac", "audio/flac")],
)
def test_original_has_the_type_of_what_was_received(name, expected):
    assert media_type(PlayFormat.ORIGINAL, recording(name)[1]) == expected


@every_recording
def test_peaks_outline_the_sound(name):
    received, facts = recording(name)
    outline = np.array(peaks(received, facts, 100))
    assert outline.shape == (100, 2)
    assert (outline[:, 0] <= outline[:, 1]).all()
    exact = np.array(peaks(*recording("raw-ulaw"), 100))
    assert np.corrcoef(outline[:, 1], exact[:, 1])[0, 1] > (0.8 if name == "gsm" else 0.9)


def test_peaks_are_least_and_greatest_of_each_part():
    codes = g711.encode(np.array([0, 32_000, -32_000, 0, 1_000, 0], np.int16), "pcma")
    facts = probe(codes, "audio/PCMA")
    assert peaks(codes, facts, 3) == [(0, 126), (-126, 0), (0, 3)]
    assert len(peaks(codes, facts, 50)) == 50


def test_peaks_of_no_sound_are_flat():
    facts = probe(b"", "audio/PCMU", tolerate_truncation=True)
    assert peaks(b"", facts, 4) == [(0, 0)] * 4


@pytest.mark.parametrize("buckets", [0, -1, 100_001])
def test_senseless_number_of_peaks_is_refused(buckets):
    with pytest.raises(CallerError):
        peaks(*recording("raw-ulaw"), buckets)


@pytest.mark.parametrize("rate_hz", [16_000, 11_025, 48_000])
def test_resampling_there_and_back_is_the_same_sound(rate_hz):
    there = resample(Pcm(speech_pcm()[:, None], 8_000), rate_hz)
    assert len(there.samples) == -(-len(speech_pcm()) * rate_hz // 8_000)
    back = resample(there, 8_000).samples[: len(speech_pcm()), 0]
    error = back.astype(int) - speech_pcm()
    assert np.abs(error[100:-100]).max() <= 40


def test_resampling_takes_away_what_the_lower_rate_cannot_hold():
    time_s = np.arange(16_000) / 16_000
    tones = 8_000 * (np.sin(2 * np.pi * 1_000 * time_s) + np.sin(2 * np.pi * 6_000 * time_s))
    lower = resample(Pcm(np.rint(tones).astype(np.int16)[:, None], 16_000), 8_000)
    spectrum = np.abs(np.fft.rfft(lower.samples[:, 0]))
    assert spectrum.argmax() == 1_000
    assert spectrum[1_900:2_100].max() < spectrum[1_000] / 100  # 6 000 Hz would fold to 2 000
