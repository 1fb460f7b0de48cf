"""The log in SQLite: the embedded default.

Write-ahead journal with ``synchronous=FULL``: a commit is on the disk when it returns. One
connection writes, each reading thread has its own; readers never wait for the writer.

Source: claim 10.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
from eventsourcing.persistence import Tracking

from ledger.errors import CorruptionError, LedgerError, NoRoomError, TransientError
from ledger.sealing import WrappedKey
from ledger.storage.compression import compress, decompress
from ledger.storage.connection_pool import ConnectionPool
from ledger.storage.event_log import (
    Append,
    BlobLocation,
    LogEntry,
    LogHead,
    PeerTracking,
    Readers,
    TrackedOrigin,
)
from ledger.storage.log_reserve import LogReserve
from ledger.storage.merkle import HASH_BYTES, Frontier
from ledger.storage.recorder import BaseLogRecorder, Clash, Head, Plan, check_tracking, plan
from ledger.storage.row_sums import incarnation_sum, tracking_sum

_BUSY_TIMEOUT_S: Final = 30.0
_NO_ROOM_RETRY_S: Final = 5.0
_KEYS_A_QUERY: Final = 500
_BROKEN: Final = (
    "SQLITE_IOERR_FSYNC",
    "SQLITE_IOERR_DIR_FSYNC",
    "SQLITE_IOERR_CORRUPTFS",
    "SQLITE_IOERR_DATA",
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
)
"""After these nothing is known about what reached the disk: never tried again."""
_NO_ROOM: Final = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")
"""What a full disk looks like, depending on which of the files had to grow."""
_WRITE_SUM: Final = "INSERT OR REPLACE INTO row_sum VALUES (?, ?)"
_WRITE_KEY: Final = (
    "INSERT INTO message_key VALUES (?, ?) ON CONFLICT (call_id) DO UPDATE SET wrapped = NULL "
    "WHERE excluded.wrapped IS NULL"
)
_FORGET_WAIT_MS: Final = 100
_ENTRY: Final = (
    "SELECT position, originator_id, originator_version, topic, state, origin, origin_position "
    "FROM events "
)


_BYTES: Final = frozenset({bytes})
_OTHER_KINDS: Final = (TypeError, msgspec.ValidationError)
_NO_TEXT: Final = "Could not decode to UTF-8"
"""What the driver says of damaged text."""


class SqliteLogRecorder(BaseLogRecorder):
    """The log contract over one SQLite file whose schema is up to date."""

    def __init__(self, path: Path, reserve: LogReserve | None = None) -> None:
        """Open the file. When its disk is full, room is taken from ``reserve``."""
        super().__init__()
        self.path = path
        self._reserve = reserve
        self._writer = _connect(path)
        self._writing = threading.Lock()
        self._readers = ConnectionPool(lambda: _connect(path))

    # --- writing ---------------------------------------------------------------------------

    def _transact(self, appends: Sequence[Append]) -> Plan:
        with self._writing, _translated(self.path):
            while True:
                try:
                    result = self._transact_once(appends)
                except sqlite3.OperationalError as error:
                    # Nothing of the group is in the log then, and what came before it is.
                    if not _is_no_room(error) or self._reserve is None or not self._reserve.give():
                        raise
                else:
                    if None in result.keys.values():
                        self._forget()
                    return result

    def _forget(self) -> None:
        """Take what was destroyed out of the write-ahead log too, unless somebody reads for long.

        Then it leaves with a later checkpoint. The commit stands in any case.
        """
        with suppress(sqlite3.OperationalError):
            self._writer.execute(f"PRAGMA busy_timeout = {_FORGET_WAIT_MS}")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._writer.execute(f"PRAGMA busy_timeout = {round(_BUSY_TIMEOUT_S * 1000)}")

    def _transact_once(self, appends: Sequence[Append]) -> Plan:
        with self._transaction() as cursor:
            result = plan(_read_head(cursor), appends)
            try:
                self._write(cursor, result)
            except sqlite3.IntegrityError as error:
                raise Clash from error
            # A crash before the commit leaves nothing of this group, after it all of it.
            return result

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        cursor = self._writer.cursor()
        # IMMEDIATE: taking the lock before the first read is what makes the read valid.
        cursor.execute("BEGIN IMMEDIATE")
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                cursor.execute("ROLLBACK")
            raise
        finally:
            cursor.close()

    def _write(self, cursor: sqlite3.Cursor, result: Plan) -> None:
        # Rows with random keys go in their order: near ones lie in one page of an index.
        cursor.executemany(
            "INSERT INTO events VALUES (?,?,?,?,?,?,?,?)",
            [
                (position, stream.bytes, version, topic, compress(plain), leaf, origin, place)
                for position, stream, version, topic, plain, leaf, origin, place in result.rows
            ],
        )
        if result.nodes:
            cursor.executemany(
                "INSERT INTO tree_node VALUES (?,?,?)",
                [(node.level, node.index, node.hash) for node in result.nodes],
            )
        for tracking in result.tracking:
            _write_tracking(cursor, tracking)
        if result.blob_locations:
            cursor.executemany(
                "INSERT OR REPLACE INTO blob_location VALUES (?,?,?,?)",
                sorted(
                    (b.digest, b.pack, b.offset_bytes, b.length_bytes)
                    for b in result.blob_locations.values()
                ),
            )
        if result.sums:
            cursor.executemany(_WRITE_SUM, sorted(result.sums.items()))
        if result.keys:
            cursor.executemany(
                _WRITE_KEY,
                sorted((call_id.bytes, wrapped) for call_id, wrapped in result.keys.items()),
            )
        frontier = result.after.frontier
        cursor.execute(
            "UPDATE log_head SET position = ?, frontier = ?", (frontier.size, frontier.to_bytes())
        )

    def _existing(self, appends: Sequence[Append]) -> set[tuple[Any, int]]:
        streams = {e.originator_id for append in appends for e in append.events}
        found = self._by_keys(
            "SELECT originator_id, originator_version FROM events WHERE originator_id IN ",
            [stream.bytes for stream in streams],  # type: ignore[union-attr]  # ours are UUIDs
        )
        return {(UUID(bytes=stream), version) for stream, version in found}

    def start_incarnation(self, incarnation: UUID) -> LogHead:
        with self._writing, _translated(self.path), self._transaction() as cursor:
            cursor.execute("UPDATE log_head SET incarnation = ?", (incarnation.bytes,))
            cursor.execute(_WRITE_SUM, incarnation_sum(incarnation))
        return self.head()

    # --- reading ---------------------------------------------------------------------------

    @property
    def readers(self) -> Readers:
        return Readers(self._readers.borrowed, self._readers.most)

    def head(self) -> LogHead:
        with _translated(self.path), self._readers.borrow() as connection:
            return _read_head(connection.cursor()).to_log_head()

    def read(self, start: int, limit: int, stop: int | None = None) -> list[LogEntry]:
        last = start + limit - 1 if stop is None else min(start + limit - 1, stop)
        return _entries(
            self._select(_ENTRY + "WHERE position BETWEEN ? AND ? ORDER BY position", (start, last))
        )

    def read_streams(self, originator_ids: Sequence[UUID]) -> dict[UUID, list[LogEntry]]:
        rows = self._by_keys(
            _ENTRY + "WHERE originator_id IN ",
            [stream.bytes for stream in originator_ids],
            " ORDER BY originator_id, originator_version",
        )
        streams: dict[UUID, list[LogEntry]] = {}
        for entry in _entries(rows):
            streams.setdefault(entry.originator_id, []).append(entry)
        return streams

    def read_topics(self, topics: Sequence[str], start: int, stop: int) -> list[LogEntry]:
        marks = ",".join("?" * len(topics))
        rows = self._select(
            f"{_ENTRY}WHERE position BETWEEN ? AND ? AND topic IN ({marks}) ORDER BY position",
            (start, stop, *topics),
        )
        return _entries(rows)

    def read_hashes(self, level: int, first: int, stop: int) -> Sequence[bytes]:
        if level == 0:
            rows = self._select(
                "SELECT leaf_hash FROM events WHERE position BETWEEN ? AND ? ORDER BY position",
                (first + 1, stop),
            )
        else:
            rows = self._select(
                "SELECT hash FROM tree_node WHERE level = ? AND idx BETWEEN ? AND ? ORDER BY idx",
                (level, first, stop - 1),
            )
        self._check_hashes(len(rows), level, first, stop)
        hashes = [row[0] for row in rows]
        are_bytes = _BYTES.issuperset(map(type, hashes))
        if not are_bytes or not {HASH_BYTES}.issuperset(map(len, hashes)):
            raise CorruptionError(
                "a hash of the tree is none",
                place=f"hashes {first} to {stop - 1} of level {level}",
                advice="restore the log from a backup or a mirror",
            )
        return hashes

    def tracked(self, origin: str) -> list[TrackedOrigin]:
        rows = self._select(
            "SELECT application_name, notification_id, root FROM tracking "
            "WHERE application_name > ? AND application_name < ? ORDER BY updated DESC",
            # "0" is the character after "/". (LIKE would not tell upper case from lower.)
            (f"{origin}/", f"{origin}0"),
        )
        return [
            TrackedOrigin(origin, UUID(name.rpartition("/")[2]), position, root)
            for name, position, root in rows
        ]

    def max_tracking_id(self, application_name: str) -> int | None:
        rows = self._select(
            "SELECT notification_id FROM tracking WHERE application_name = ?", (application_name,)
        )
        return rows[0][0] if rows else None

    def locate_blobs(self, digests: Sequence[str]) -> dict[str, BlobLocation]:
        rows = self._by_keys(
            "SELECT digest, pack, offset_bytes, length_bytes FROM blob_location WHERE digest IN ",
            list(digests),
        )
        return {row[0]: BlobLocation(*row) for row in rows}

    def read_keys(self, call_ids: Sequence[UUID]) -> dict[UUID, WrappedKey]:
        rows = self._by_keys(
            # What is no bytes any more is a damaged key to whoever unwraps it.
            "SELECT call_id, CAST(wrapped AS BLOB) FROM message_key WHERE call_id IN ",
            [call_id.bytes for call_id in call_ids],
        )
        return {(key := UUID(bytes=call_id)): WrappedKey(key, wrapped) for call_id, wrapped in rows}

    def close(self) -> None:
        self._readers.close()
        with self._writing:
            self._writer.close()

    def _select(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        with _translated(self.path), self._readers.borrow() as connection:
            return connection.execute(query, parameters).fetchall()

    def _by_keys(self, query: str, keys: Sequence[Any], order: str = "") -> list[Any]:
        rows: list[Any] = []
        for start in range(0, len(keys), _KEYS_A_QUERY):
            part = keys[start : start + _KEYS_A_QUERY]
            marks = ",".join("?" * len(part))
            rows.extend(self._select(f"{query}({marks}){order}", part))
        return rows


def _entries(rows: Sequence[Any]) -> list[LogEntry]:
    """Make entries of rows; raises CorruptionError for what has other columns than were written.

    SQLite keeps the kind of each value beside it: a flipped bit can make a number of an event.
    """
    try:
        return _converted(rows)
    except _OTHER_KINDS:
        for row in rows:
            _expect_kinds(row)
        raise


def _converted(rows: Sequence[Any]) -> list[LogEntry]:
    plain = [
        (position, stream, version, topic, decompress(state, position), origin, place)
        for position, stream, version, topic, state, origin, place in rows
    ]
    # Bytes as they are: from text they would be decoded.
    return msgspec.convert(plain, list[LogEntry], builtin_types=(bytes,))


def _expect_kinds(row: Any) -> None:
    try:
        _converted([row])
    except _OTHER_KINDS as error:
        raise CorruptionError(
            "the row of an event has columns of another kind than were written",
            place=f"position {row[0]}",
            advice="restore the log from a backup or a mirror",
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    # A key that is destroyed is overwritten where it stood.
    connection.execute("PRAGMA secure_delete=ON")
    return connection


def _read_head(cursor: sqlite3.Cursor) -> Head:
    try:
        row = cursor.execute("SELECT incarnation, position, frontier FROM log_head").fetchone()
    except sqlite3.OperationalError as error:
        if not str(error).startswith(_NO_TEXT):
            raise
        raise _damaged_head(error) from error
    if row is None:
        raise CorruptionError(
            "the log has no head", place="log_head", advice="restore the log from a backup"
        )
    try:
        return Head(UUID(bytes=row[0]), Frontier.from_bytes(row[1], row[2]))
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged_head(error) from error


def _damaged_head(cause: Exception) -> CorruptionError:
    return CorruptionError(
        f"the log's head is damaged: {cause}",
        place="log_head",
        advice="restore the log from a backup",
    )


def _write_tracking(cursor: sqlite3.Cursor, tracking: Tracking) -> None:
    name = tracking.application_name
    current, updated = cursor.execute(
        "SELECT (SELECT notification_id FROM tracking WHERE application_name = ?), "
        "(SELECT coalesce(max(updated), 0) + 1 FROM tracking)",
        (name,),
    ).fetchone()
    try:
        check_tracking(tracking, current)
    except Exception as error:
        raise Clash from error
    root = tracking.root if isinstance(tracking, PeerTracking) else b""
    row = (name, tracking.notification_id, root, updated)
    cursor.execute("INSERT OR REPLACE INTO tracking VALUES (?, ?, ?, ?)", row)
    cursor.execute(_WRITE_SUM, tracking_sum(*row))


def _is_no_room(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorname", "") in _NO_ROOM


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except LedgerError:
        raise
    except sqlite3.DatabaseError as error:
        is_broken = getattr(error, "sqlite_errorname", "").startswith(_BROKEN)
        is_broken |= str(error).startswith(_NO_TEXT)
        if _is_no_room(error):
            raise NoRoomError(
                f"the disk of the log {path} is full ({error}); free some space",
                retry_after_s=_NO_ROOM_RETRY_S,
            ) from error
        if isinstance(error, sqlite3.OperationalError) and not is_broken:
            raise TransientError(f"the log {path} cannot be used now: {error}") from error
        raise CorruptionError(
            f"the log is damaged: {error}",
            place=str(path),
            advice="stop the server and restore the log from a backup or a mirror",
        ) from error
