"""What is sealed: recordings, fields of events, wrapped keys, the file with the master key.

The first byte of an input says what the rest is taken for. Nothing else than what was sealed ever
comes out: whatever opens is, byte for byte, one of the forms that were made here. What is whole of
a recording is a beginning of what was sealed. Only CorruptionError and, for keys of another server
and for the file, CallerError may come out.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from pathlib import Path
from uuid import UUID

from ledger.errors import CallerError, CorruptionError
from ledger.sealing import MasterKey, MessageKey, WrappedKey, load_master_key
from ledger.storage.sealed_form import HEADER_BYTES, SealedFormWriter, seal, sealed_prefix, unseal
from tests.fuzz.target import Target

KEY = MessageKey(UUID(int=7), b"k" * 32)
MASTER = MasterKey(b"m" * 32)
PURPOSE = "caller"
FIELD = b'{"number":"100"}'
PIECES = (b"one second", b"another one", b"x" * 300)


def _random_bytes(count: int) -> bytes:
    """Bytes that are the same in each run."""
    return hashlib.shake_256(b"sealed").digest(count)


def _written() -> tuple[bytes, list[bytes]]:
    """A recording in three pieces; its form up to each end of a segment."""
    writer = SealedFormWriter(KEY, _random_bytes)
    parts = [writer.header(), *map(writer.add, PIECES), writer.finish()]
    return b"".join(parts), [b"".join(parts[: count + 1]) for count in range(len(parts))]


WHOLE, PREFIXES = _written()
EMPTY = seal(b"", KEY, _random_bytes)
SEALED_FIELD = KEY.seal(FIELD, PURPOSE, _random_bytes)
WRAPPED = MASTER.wrap(KEY, _random_bytes).wrapped or b""
FILE = b"vmledger-master-key-1 " + base64.b64encode(MASTER.secret) + b"\n"


def seeds() -> list[bytes]:
    return [b"r" + WHOLE, b"r" + EMPTY, b"f" + SEALED_FIELD, b"w" + WRAPPED, b"m" + FILE]


def run(data: bytes) -> bool:
    readers = {b"r": _recording, b"f": _field, b"w": _wrapped, b"m": _master_key}
    reader = readers.get(data[:1])
    return reader is not None and reader(data[1:])


def _recording(data: bytes) -> bool:
    told = sealed_prefix(data, KEY)
    assert told.length_bytes <= len(data)
    kept = data[: told.length_bytes]
    # The salt in a header is not checked alone: nothing opens under another one.
    assert kept in (b"", EMPTY, *PREFIXES) or (len(kept) == HEADER_BYTES and not told.plain)
    assert b"".join(PIECES).startswith(told.plain)
    assert told.is_finished == (kept in (WHOLE, EMPTY))
    try:
        plain = unseal(data, KEY)
    except CorruptionError:
        assert data not in (WHOLE, EMPTY)
        return False
    assert (data, plain) in ((WHOLE, b"".join(PIECES)), (EMPTY, b""))
    return True


def _field(data: bytes) -> bool:
    try:
        plain = KEY.open(data, PURPOSE)
    except CorruptionError:
        assert data != SEALED_FIELD
        return False
    assert (data, plain) == (SEALED_FIELD, FIELD)
    return True


def _wrapped(data: bytes) -> bool:
    try:
        key = MASTER.unwrap(WrappedKey(KEY.key_id, data))
    except (CallerError, CorruptionError):
        assert data != WRAPPED
        return False
    assert (data, key) == (WRAPPED, KEY)
    return True


def _master_key(data: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "master.key"
        path.touch(mode=0o600)
        path.write_bytes(data)
        try:
            key = load_master_key(path)
        except CallerError:
            assert data != FILE
            return False
    # One text for each key, but for the line's end.
    text = b"vmledger-master-key-1 " + base64.b64encode(key.secret)
    assert data in (text, text + b"\n")
    return True


TARGET = Target(run, seeds, words=("vmseal1\n", "vmledger-master-key-1 "))
