"""Columns of rows as PostgreSQL's binary arrays, built without a Python call an element.

Source: PostgreSQL's ``array_recv`` (dimensions, flags, element type, then length and bytes of each
element; length -1 for NULL).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER: Final = struct.Struct("!iiiii")
_LENGTH: Final = struct.Struct("!i")
_NULL: Final = _LENGTH.pack(-1)
_INT8_OID, _TEXT_OID, _BYTEA_OID, _UUID_OID = 20, 25, 17, 2950


class Int8Array(bytes):
    """A ``bigint[]`` in PostgreSQL's binary form."""

    __slots__ = ()


class TextArray(bytes):
    """A ``text[]`` in PostgreSQL's binary form."""

    __slots__ = ()


class ByteaArray(bytes):
    """A ``bytea[]`` in PostgreSQL's binary form."""

    __slots__ = ()


class UuidArray(bytes):
    """A ``uuid[]`` in PostgreSQL's binary form."""

    __slots__ = ()


def int8_array(values: Sequence[int | None]) -> Int8Array:
    """Encode integers; None is NULL."""
    if None in values:
        pack = struct.Struct("!iq").pack
        parts = [_NULL if value is None else pack(8, value) for value in values]
        return Int8Array(_header(_INT8_OID, len(values), has_null=True) + b"".join(parts))
    interleaved = [item for value in values for item in (8, value)]
    data = struct.pack("!" + "iq" * len(values), *interleaved)
    return Int8Array(_header(_INT8_OID, len(values)) + data)


def text_array(values: Sequence[str | None]) -> TextArray:
    """Encode strings; None is NULL."""
    encoded = [None if value is None else value.encode() for value in values]
    return TextArray(_array(_TEXT_OID, encoded))


def bytea_array(values: Sequence[bytes | None]) -> ByteaArray:
    """Encode byte strings; None is NULL."""
    return ByteaArray(_array(_BYTEA_OID, values))


def uuid_array(values: Sequence[bytes]) -> UuidArray:
    """Encode UUIDs given as their 16 bytes."""
    return UuidArray(_array(_UUID_OID, values))


def _array(oid: int, values: Sequence[bytes | None]) -> bytes:
    pack = _LENGTH.pack
    parts = [_header(oid, len(values), has_null=None in values)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (pack(len(value)), value)
    return b"".join(parts)


def _header(oid: int, length: int, *, has_null: bool = False) -> bytes:
    if not length:
        return struct.pack("!iii", 0, 0, oid)
    return _HEADER.pack(1, int(has_null), oid, length, 1)


class _RawDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return bytes(obj)


def register(connection: psycopg.Connection[object]) -> None:
    """Let this connection take the arrays of this module as parameters."""
    for kind, element in (
        (Int8Array, "int8"),
        (TextArray, "text"),
        (ByteaArray, "bytea"),
        (UuidArray, "uuid"),
    ):
        oid = psycopg.adapters.types[element].array_oid
        dumper = type(f"{kind.__name__}Dumper", (_RawDumper,), {"oid": oid})
        connection.adapters.register_dumper(kind, dumper)
