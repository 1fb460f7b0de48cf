"""Audio at rest: durable blobs a second, and megabytes a second into and out of the stored form.

Goals: packs of 64 at least 10 times as many durable blobs of 20 KB as file by file (each written,
synced, renamed, its directory synced), twice as many at 100 KB, where the disk's own speed is the
limit. Both move with the disk: a slow sync makes packs look better, a busy disk worse. The stored
form, a frame a second with checksum and digests, at least 0.1 of the speed of zstd over the whole
at once (one core then still takes in thousands of calls) and at most 1.02 of its size; 1.025 was
measured on the speech here, the price of frames that stand alone.

Run as ``python -m benchmarks.blobs``; needs about 100 MB on the disk of the current directory.
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from uuid import UUID

import zstandard

from benchmarks.report import report
from ledger.storage.blob_store import NewBlob
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.stored_form import RecordingMetadata, StoredFormWriter, decode

ROUNDS = 7
BATCH = 64
SPEECH = Path(__file__).parents[1] / "vmledger" / "speech"
SECOND_BYTES = 8_000
METADATA = RecordingMetadata(
    call_id=UUID(int=1), server="bench", started_at=datetime(2026, 1, 1, tzinfo=UTC)
)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-blobs-") as directory:
        measure_durable(Path(directory), size_bytes=20_000, goal=10)
        measure_durable(Path(directory), size_bytes=100_000, goal=2)
    measure_stored_form()


def measure_durable(directory: Path, *, size_bytes: int, goal: float) -> None:
    noise = random.Random(size_bytes)  # the same blobs in every run
    store = FilesystemBlobStore(directory / f"store-{size_bytes}")
    plain = directory / f"plain-{size_bytes}"
    plain.mkdir()
    packed, by_file = [], []
    for _ in range(ROUNDS):
        first, second = new_blobs(noise, size_bytes), new_blobs(noise, size_bytes)
        packed.append(BATCH / seconds(partial(store.put_pack, first)))
        by_file.append(BATCH / seconds(partial(write_file_by_file, plain, second)))
    report(
        f"blobs-durable-{size_bytes // 1000}kb",
        statistics.median(packed),
        "blobs/s",
        "file by file",
        statistics.median(by_file),
        goal,
    )


def new_blobs(noise: random.Random, size_bytes: int) -> list[NewBlob]:
    contents = [noise.randbytes(size_bytes) for _ in range(BATCH)]
    return [NewBlob(hashlib.sha256(c).hexdigest(), c) for c in contents]


def write_file_by_file(directory: Path, blobs: list[NewBlob]) -> None:
    """The plain way to keep each blob durably."""
    for blob in blobs:
        temporary = directory / "tmp"
        with temporary.open("wb") as file:
            file.write(blob.data)
            file.flush()
            os.fdatasync(file.fileno())
        temporary.rename(directory / blob.digest)
        descriptor = os.open(directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def measure_stored_form() -> None:
    """All the speech there is, as a caller speaks it (a frame a second) and back."""
    received = b"".join(path.read_bytes()[58:] for path in sorted(SPEECH.glob("*.wav")))
    stored = encode_by_second(received)
    whole = zstandard.ZstdCompressor(level=3).compress(received)
    compressor, decompressor = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()
    assert decode(stored) == received == decompressor.decompress(whole)
    into, out = [], []
    for _ in range(ROUNDS):
        into.append(
            (
                rate(received, lambda: encode_by_second(received)),
                rate(received, lambda: compressor.compress(received)),
            )
        )
        out.append(
            (
                rate(received, lambda: decode(stored)),
                rate(received, lambda: decompressor.decompress(whole)),
            )
        )
    for name, rates in (("encode", into), ("decode", out)):
        ours, baseline = (statistics.median(column) for column in zip(*rates, strict=True))
        report(f"stored-form-{name}", ours, "MB/s", "zstd over the whole", baseline, 0.1)
    size, whole_size = len(stored), len(whole)
    report("stored-form-size", size / 1000, "KB", "zstd over the whole", whole_size / 1000, 1.02)


def encode_by_second(received: bytes) -> bytes:
    writer = StoredFormWriter(METADATA)
    frames = [writer.header()]
    for start in range(0, len(received), SECOND_BYTES):
        frames.append(writer.add(received[start : start + SECOND_BYTES]))
    return b"".join([*frames, writer.flush()])


def rate(received: bytes, work: Callable[[], object]) -> float:
    """Give megabytes of received audio a second."""
    times = 10
    return len(received) * times / 1e6 / seconds(lambda: [work() for _ in range(times)])


def seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


if __name__ == "__main__":
    main()
