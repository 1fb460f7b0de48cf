"""What sealing costs a message: ``python -m benchmarks.sealing``.

A message of 20 KB, spoken in pieces of a second. Sealing it is: a new key, wrapped; who called,
sealed; each piece of the stored form, sealed as it is written. Beside it, what is done to the same
message anyway: its stored form (compressed, checksummed, two digests). Goal: at most half of that.

Back: the kept key unwrapped, who called and the audio opened, beside the stored form read (its
frames checked and decompressed). Goal: at most once that. For a projection that is built anew only
key and caller count, beside the events of the message decoded. Goal: at most once that.

What counts is processor time, and the quickest of all rounds: whatever else the machine does only
adds to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import process_time
from uuid import UUID

from benchmarks.blobs import METADATA, SECOND_BYTES, SPEECH
from benchmarks.report import report
from benchmarks.sample_events import call_with_message
from ledger.events import decode, encode
from ledger.sealing import MasterKey, WrappedKey, new_message_key
from ledger.storage.sealed_form import SealedFormWriter, unseal
from ledger.storage.stored_form import StoredFormWriter
from ledger.storage.stored_form import decode as read_stored_form

ROUNDS = 15
TIMES = 200
SIZE_BYTES = 20_000
CALL = UUID(int=1)
CALLER = b'{"number":"+15550100","name":"Ada Lovelace","redirecting_number":"+15550199"}'
MASTER = MasterKey(os.urandom(32))


def main() -> None:
    received = speech()
    frames = stored_frames(received)
    wrapped, caller, audio = sealed_message(frames)
    stored = b"".join(frames)
    events = [encode(event) for event in call_with_message(Random(1), server="a", home="b")]
    assert unsealed_message(wrapped, caller, audio) == (CALLER, stored)
    assert read_stored_form(stored) == received
    into, out, rebuild = [], [], []
    for _ in range(ROUNDS):
        into.append((us(lambda: sealed_message(frames)), us(lambda: stored_frames(received))))
        back = us(lambda: unsealed_message(wrapped, caller, audio))
        out.append((back, us(lambda: read_stored_form(stored))))
        fields = us(lambda: opened_caller(wrapped, caller))
        rebuild.append((fields, us(lambda: [decode(event) for event in events])))
    show("seal-message-20kb", into, "making its stored form", 0.5)
    show("unseal-message-20kb", out, "reading its stored form", 1)
    show("unseal-caller", rebuild, "decoding its events", 1)
    more = len(audio) / len(stored)
    print(f"sealed: {len(audio)} bytes of {len(stored)}: {more:.4f} times; a key: {len(wrapped)}")


def speech() -> bytes:
    whole = b"".join(Path(path).read_bytes()[58:] for path in sorted(SPEECH.glob("*.wav")))
    return whole[:SIZE_BYTES]


def stored_frames(received: bytes) -> list[bytes]:
    """Make the stored form as a caller speaks it, a frame a second."""
    writer = StoredFormWriter(METADATA)
    frames = [writer.header()]
    for start in range(0, len(received), SECOND_BYTES):
        frames.append(writer.add(received[start : start + SECOND_BYTES]))
    last = writer.flush()
    assert writer.received_digest != writer.stored_digest
    return [*frames, last]


def sealed_message(frames: list[bytes]) -> tuple[bytes, bytes, bytes]:
    """Give the wrapped key, who called, and the audio of a message, all sealed."""
    key = new_message_key(CALL, os.urandom)
    wrapped = MASTER.wrap(key, os.urandom).wrapped
    assert wrapped is not None
    writer = SealedFormWriter(key, os.urandom)
    audio = [writer.header(), *(writer.add(frame) for frame in frames), writer.finish()]
    return wrapped, key.seal(CALLER, "caller", os.urandom), b"".join(audio)


def unsealed_message(wrapped: bytes, caller: bytes, audio: bytes) -> tuple[bytes, bytes]:
    key = MASTER.unwrap(WrappedKey(CALL, wrapped))
    return key.open(caller, "caller"), unseal(audio, key)


def opened_caller(wrapped: bytes, caller: bytes) -> bytes:
    return MASTER.unwrap(WrappedKey(CALL, wrapped)).open(caller, "caller")


def us(work: Callable[[], object]) -> float:
    """Give the microseconds of processor time that one message takes."""
    start = process_time()
    for _ in range(TIMES):
        work()
    return (process_time() - start) / TIMES * 1e6


def show(name: str, rounds: list[tuple[float, float]], baseline: str, goal: float) -> None:
    ours, theirs = (min(column) for column in zip(*rounds, strict=True))
    report(name, ours, "us", baseline, theirs, goal)


if __name__ == "__main__":
    main()
