"""Train a dictionary for events at rest: ``python -m benchmarks.train_dictionary TARGET``.

A new dictionary gets a new number and the old ones stay: stored frames name theirs. The events
come from a fixed seed; another version of zstandard may still choose other content.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import zstandard

from benchmarks.sample_events import call_with_message
from ledger.events import encode

DICTIONARY_BYTES = 16 << 10


def main(target: Path) -> None:
    rng = random.Random(7379540)
    samples: list[bytes | bytearray | memoryview] = [
        encode(event) for _ in range(1500) for event in call_with_message(rng)
    ]
    dictionary = zstandard.train_dictionary(DICTIONARY_BYTES, samples)
    target.write_bytes(dictionary.as_bytes())
    compressor = zstandard.ZstdCompressor(level=3, dict_data=dictionary)
    before, after = sum(map(len, samples)), sum(len(compressor.compress(s)) for s in samples)
    print(
        f"{target}: id {dictionary.dict_id()}, {before / len(samples):.0f} -> "
        f"{after / len(samples):.0f} bytes an event"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
