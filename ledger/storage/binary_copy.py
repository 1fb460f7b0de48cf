"""Rows of the log in PostgreSQL's binary COPY format: the fastest way in for large batches.

Source: PostgreSQL binary COPY format (signature, flags, then the fields of each row, each with its
length, -1 for NULL; a field count of -1 ends the data).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ledger.storage.compression import compress
from ledger.storage.recorder import Row

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END: Final = b"\xff\xff"
_COLUMNS: Final = 8
_ROWS_A_PART: Final = 200
_START: Final = struct.Struct("!hiqi16siqi")
"""Field count; position, stream and version, each behind its length; the topic's length."""
_LENGTH: Final = struct.Struct("!i")
_HASH_LENGTH: Final = _LENGTH.pack(32)
_NULL: Final = _LENGTH.pack(-1)
_POSITION: Final = struct.Struct("!iq")


def copy_data(rows: Sequence[Row]) -> Iterator[bytes]:
    """Encode rows of table ``events``, in the order of its columns; compresses their states.

    In parts, so that the database works on the first while the next is made.
    """
    yield _SIGNATURE
    for first in range(0, len(rows), _ROWS_A_PART):
        yield _encode(rows[first : first + _ROWS_A_PART])
    yield _END


def _encode(rows: Iterable[Row]) -> bytes:
    parts: list[bytes] = []
    start, length = _START.pack, _LENGTH.pack
    for position, stream, version, topic, plain, leaf, origin, origin_position in rows:
        name, state = topic.encode(), compress(plain)
        parts += (
            start(_COLUMNS, 8, position, 16, stream.bytes, 8, version, len(name)),
            name,
            length(len(state)),
            state,
            _HASH_LENGTH,
            leaf,
            _text(origin),
            _NULL if origin_position is None else _POSITION.pack(8, origin_position),
        )
    return b"".join(parts)


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    return _LENGTH.pack(len(data)) + data
