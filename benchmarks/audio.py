"""Audio: how many times faster than real time it is recognised, played and outlined.

The recording is a minute of speech in µ-law, as a WAV file. The baseline is libsndfile through
soundfile, called directly for the nearest thing it does: opening and reading the file, or writing
it in the other form. Goals: recognising, playing as WAV and outlining at least as fast as that;
MP3, where libsndfile does the work for both, at least 0.8 of it.

Run as ``python -m benchmarks.audio``.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import soundfile

from benchmarks.report import report
from ledger.audio.peaks import peaks
from ledger.audio.probe import probe
from ledger.audio.render import PlayFormat, render
from ledger.audio.wav import write_law

ROUNDS = 7
SECONDS = 60
SPEECH = Path(__file__).parents[1] / "vmledger" / "speech"


def main() -> None:
    codes = b"".join(path.read_bytes()[58:] for path in sorted(SPEECH.glob("*.wav")))
    wav = write_law((codes * 3)[: SECONDS * 8_000], "pcmu", 8_000)
    facts = probe(wav, "audio/wav")
    assert facts.duration_ms == SECONDS * 1000
    compare("audio-probe", lambda: probe(wav, "audio/wav"), lambda: read(wav), goal=1, times=20)
    for play_format, goal in ((PlayFormat.WAV_LAW, 1), (PlayFormat.WAV_PCM16, 1)):
        compare(
            f"audio-render-{play_format.value}",
            partial(render, wav, facts, play_format),
            lambda: write(read(wav), "WAV", "PCM_16"),
            goal=goal,
            times=20,
        )
    compare(
        "audio-render-mp3",
        lambda: render(wav, facts, PlayFormat.MP3),
        lambda: write(read(wav), "MP3", "MPEG_LAYER_III"),
        goal=0.8,
        times=1,
    )
    compare("audio-peaks", lambda: peaks(wav, facts, 400), lambda: outline(wav), goal=1, times=20)


def compare(
    name: str, ours: Callable[[], object], plain: Callable[[], object], *, goal: float, times: int
) -> None:
    rates = [(times_real_time(ours, times), times_real_time(plain, times)) for _ in range(ROUNDS)]
    value, baseline = (statistics.median(column) for column in zip(*rates, strict=True))
    report(name, value, "times real time", "soundfile called directly", baseline, goal)


def times_real_time(work: Callable[[], object], times: int) -> float:
    start = perf_counter()
    for _ in range(times):
        work()
    return SECONDS * times / (perf_counter() - start)


def read(wav: bytes) -> np.ndarray:
    samples: np.ndarray = soundfile.read(io.BytesIO(wav), dtype="int16")[0]
    return samples


def write(samples: np.ndarray, container: str, subtype: str) -> bytes:
    buffer = io.BytesIO()
    options = {"bitrate_mode": "CONSTANT", "compression_level": 0.714} if container == "MP3" else {}
    with soundfile.SoundFile(
        buffer, "w", 8_000, 1, format=container, subtype=subtype, **options
    ) as file:
        file.write(samples)
    return buffer.getvalue()


def outline(wav: bytes) -> list[tuple[int, int]]:
    parts = np.array_split(read(wav), 400)
    return [(int(part.min()) >> 8, int(part.max()) >> 8) for part in parts]


if __name__ == "__main__":
    main()
