"""The log in PostgreSQL, through psycopg 3.

A group of appends is one statement, so one transaction and one round trip: the head row is advanced
by compare and swap, and the events go in as binary arrays only if that succeeded. The head is
remembered between commits; when another process moved it the swap touches no row, nothing is
written, and the group is planned again. The head row is locked until the commit, which makes
positions gap-free and equal to the order of commit.

A connection that is lost while the statement runs leaves open whether it was committed. The head
tells: if it stands where our plan would have put it, with our frontier, it was.

Source: claim 10.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final
from uuid import UUID

import psycopg
from eventsourcing.persistence import Tracking
from psycopg import errors

from ledger.errors import CorruptionError, LedgerError, NoRoomError, TransientError
from ledger.sealing import WrappedKey
from ledger.storage.binary_arrays import bytea_array, int8_array, register, text_array, uuid_array
from ledger.storage.binary_copy import copy_data
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
from ledger.storage.merkle import Frontier
from ledger.storage.postgres_patience import STATEMENT_TIMEOUT_S, patience
from ledger.storage.recorder import BaseLogRecorder, Clash, Head, Plan, Row, check_tracking, plan
from ledger.storage.row_sums import incarnation_sum, tracking_sum

_RECONNECT_PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Before each try to find out what became of a commit: a restart of PostgreSQL fits in."""
_CONNECT_PAUSES_S: Final = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Before each try to connect when PostgreSQL turns us away: it has too many clients, or restarts.
Who reads gives up half-way."""
_READERS: Final = 10
_NO_ROOM_RETRY_S: Final = 5.0
_APPEND: Final = """
WITH swapped AS (
    UPDATE log_head SET position = %(position)b, frontier = %(frontier)b
    WHERE position = %(before)b AND incarnation = %(incarnation)b
    RETURNING 1
), inserted AS (
    INSERT INTO events
    SELECT * FROM unnest(
        %(positions)b, %(streams)b, %(versions)b, %(topics)b, %(states)b, %(leaves)b,
        %(origins)b, %(origin_positions)b)
    WHERE EXISTS (SELECT FROM swapped)
), grown AS (
    INSERT INTO tree_node
    SELECT * FROM unnest(%(levels)b, %(indexes)b, %(hashes)b)
    WHERE EXISTS (SELECT FROM swapped)
), placed AS (
    INSERT INTO blob_location
    SELECT * FROM unnest(%(digests)b, %(packs)b, %(offsets)b, %(lengths)b)
    WHERE EXISTS (SELECT FROM swapped)
    ON CONFLICT (digest) DO UPDATE SET
        pack = excluded.pack,
        offset_bytes = excluded.offset_bytes,
        length_bytes = excluded.length_bytes
), summed AS (
    INSERT INTO row_sum
    SELECT * FROM unnest(%(places)b, %(sums)b)
    WHERE EXISTS (SELECT FROM swapped)
    ON CONFLICT (place) DO UPDATE SET sum = excluded.sum
), locked AS (
    INSERT INTO message_key
    SELECT * FROM unnest(%(key_calls)b, %(keys)b)
    WHERE EXISTS (SELECT FROM swapped)
    ON CONFLICT (call_id) DO UPDATE SET wrapped = NULL WHERE excluded.wrapped IS NULL
)
SELECT count(*) FROM swapped
"""
_COPY: Final = "COPY events FROM STDIN (FORMAT BINARY)"
_COPY_FROM: Final = 100
"""Events from which a group is copied in: more round trips, half the work a row."""
_TRACK: Final = """
INSERT INTO tracking VALUES (%s, %s, %s, %s)
ON CONFLICT (application_name) DO UPDATE SET
    notification_id = excluded.notification_id, root = excluded.root, updated = excluded.updated
"""
_WRITE_SUM: Final = (
    "INSERT INTO row_sum VALUES (%s, %s) ON CONFLICT (place) DO UPDATE SET sum = excluded.sum"
)
_HEAD: Final = "SELECT incarnation, position, frontier FROM log_head"
_ENTRY: Final = (
    "SELECT position, originator_id, originator_version, topic, state, origin, origin_position "
    "FROM events "
)


class _HeadMovedError(Exception):
    """Another process appended since the head was read."""


class PostgresLogRecorder(BaseLogRecorder):
    """The log contract over one PostgreSQL database whose schema is up to date."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._writing = threading.Lock()
        self._writer: psycopg.Connection[Any] | None = None
        self._head: Head | None = None
        self._patience = patience(url, statement_timeout_s=STATEMENT_TIMEOUT_S)
        self._readers = ConnectionPool(
            lambda: self._connect(_CONNECT_PAUSES_S[:4]),
            is_usable=lambda c: not c.closed,
            spare=4,
            most=_READERS,
        )

    # --- writing ---------------------------------------------------------------------------

    def _transact(self, appends: Sequence[Append]) -> Plan:
        was_lost = False
        with self._writing, _translated():
            while True:
                connection = self._writing_connection(_CONNECT_PAUSES_S)
                result = plan(self._head or _read_head(connection), appends)
                self._head = None
                try:
                    self._execute(connection, result)
                except _HeadMovedError:
                    continue
                except (errors.UniqueViolation, Clash) as error:
                    raise Clash from error
                except psycopg.OperationalError:
                    if not connection.closed:
                        raise
                    if self._was_committed(result):
                        return result
                    if was_lost:
                        raise
                    # A connection that died while nobody used it shows only now: once more.
                    was_lost = True
                    continue
                self._head = result.after
                return result

    def _execute(self, connection: psycopg.Connection[Any], result: Plan) -> None:
        """Write the plan in one transaction. A crash leaves nothing of it, or all of it."""
        is_large = len(result.rows) >= _COPY_FROM
        if not is_large and not result.tracking:
            # In autocommit mode one statement is one transaction.
            self._swap_and_insert(connection, result, result.rows)
            return
        with connection.transaction():
            # The swap comes first: its row lock makes all that follows ours until the commit.
            self._swap_and_insert(connection, result, () if is_large else result.rows)
            if is_large:
                with connection.cursor().copy(_COPY) as copy:
                    for part in copy_data(result.rows):
                        copy.write(part)
            for tracking in result.tracking:
                _write_tracking(connection, tracking)

    def _swap_and_insert(
        self, connection: psycopg.Connection[Any], result: Plan, rows: Sequence[Row]
    ) -> None:
        cursor = connection.execute(_APPEND, _parameters(result, rows), prepare=True)
        row = cursor.fetchone()
        if row is None or row[0] != 1:
            raise _HeadMovedError

    def _was_committed(self, result: Plan) -> bool:
        """Look, over a new connection, whether a commit whose answer was lost happened."""
        for pause_s in _RECONNECT_PAUSES_S:
            time.sleep(pause_s)
            with suppress(psycopg.OperationalError, TransientError):
                return self._is_in_log(result)
        raise TransientError(
            "PostgreSQL went away while it committed, and does not come back: whether the last "
            "events were stored is not known, so read their streams again before another try"
        )

    def _is_in_log(self, result: Plan) -> bool:
        connection = self._writing_connection()
        _wait_for_lost_commit(connection)
        if any(
            self.max_tracking_id(tracking.application_name) != tracking.notification_id
            for tracking in result.tracking[-1:]
        ):
            return False
        kept = self.read_keys(list(result.keys))
        if any(
            call_id not in kept or (wrapped is None and kept[call_id].wrapped is not None)
            for call_id, wrapped in result.keys.items()
        ):
            return False
        if self.locate_blobs(list(result.blob_locations)) != result.blob_locations:
            return False
        size = result.after.frontier.size
        if _read_head(connection).frontier.size < size:
            return False
        return self.root_at(size) == result.after.frontier.root()

    def _writing_connection(self, pauses_s: Sequence[float] = (0.0,)) -> psycopg.Connection[Any]:
        """Give the one connection that writes; it is kept for as long as it lives."""
        if self._writer is None or self._writer.closed:
            # When PostgreSQL has no place left, calls go before questions.
            self._readers.drop_idle()
            self._writer = self._connect(pauses_s)
            self._writer.execute("SET synchronous_commit = on")
            self._head = None
        return self._writer

    def _existing(self, appends: Sequence[Append]) -> set[tuple[Any, int]]:
        streams = list({e.originator_id for append in appends for e in append.events})
        return set(
            self._select(
                "SELECT originator_id, originator_version FROM events "
                "WHERE originator_id = ANY(%s)",
                (streams,),
            )
        )

    def start_incarnation(self, incarnation: UUID) -> LogHead:
        with self._writing, _translated():
            self._head = None
            connection = self._writing_connection()
            with connection.transaction():
                connection.execute("UPDATE log_head SET incarnation = %s", (incarnation,))
                connection.execute(_WRITE_SUM, incarnation_sum(incarnation))
        return self.head()

    # --- reading ---------------------------------------------------------------------------

    @property
    def readers(self) -> Readers:
        return Readers(self._readers.borrowed, self._readers.most)

    def head(self) -> LogHead:
        return _head(self._select(_HEAD, ())).to_log_head()

    def read(self, start: int, limit: int, stop: int | None = None) -> list[LogEntry]:
        last = start + limit - 1 if stop is None else min(start + limit - 1, stop)
        rows = self._select(
            _ENTRY + "WHERE position BETWEEN %s AND %s ORDER BY position", (start, last)
        )
        return [_entry(row) for row in rows]

    def read_streams(self, originator_ids: Sequence[UUID]) -> dict[UUID, list[LogEntry]]:
        rows = self._select(
            _ENTRY + "WHERE originator_id = ANY(%s) ORDER BY originator_id, originator_version",
            (list(originator_ids),),
        )
        streams: dict[UUID, list[LogEntry]] = {}
        for row in rows:
            streams.setdefault(row[1], []).append(_entry(row))
        return streams

    def read_topics(self, topics: Sequence[str], start: int, stop: int) -> list[LogEntry]:
        rows = self._select(
            _ENTRY + "WHERE position BETWEEN %s AND %s AND topic = ANY(%s) ORDER BY position",
            (start, stop, list(topics)),
        )
        return [_entry(row) for row in rows]

    def read_hashes(self, level: int, first: int, stop: int) -> Sequence[bytes]:
        if level == 0:
            rows = self._select(
                "SELECT leaf_hash FROM events WHERE position BETWEEN %s AND %s ORDER BY position",
                (first + 1, stop),
            )
        else:
            rows = self._select(
                "SELECT hash FROM tree_node WHERE level = %s AND idx BETWEEN %s AND %s "
                "ORDER BY idx",
                (level, first, stop - 1),
            )
        self._check_hashes(len(rows), level, first, stop)
        return [row[0] for row in rows]

    def tracked(self, origin: str) -> list[TrackedOrigin]:
        rows = self._select(
            "SELECT application_name, notification_id, root FROM tracking "
            "WHERE starts_with(application_name, %s) ORDER BY updated DESC",
            (f"{origin}/",),
        )
        return [
            TrackedOrigin(origin, UUID(name.rpartition("/")[2]), position, root)
            for name, position, root in rows
        ]

    def max_tracking_id(self, application_name: str) -> int | None:
        rows = self._select(
            "SELECT notification_id FROM tracking WHERE application_name = %s", (application_name,)
        )
        return rows[0][0] if rows else None

    def locate_blobs(self, digests: Sequence[str]) -> dict[str, BlobLocation]:
        rows = self._select(
            "SELECT digest, pack, offset_bytes, length_bytes FROM blob_location "
            "WHERE digest = ANY(%s)",
            (list(digests),),
        )
        return {row[0]: BlobLocation(*row) for row in rows}

    def read_keys(self, call_ids: Sequence[UUID]) -> dict[UUID, WrappedKey]:
        rows = self._select(
            "SELECT call_id, wrapped FROM message_key WHERE call_id = ANY(%s)", (list(call_ids),)
        )
        return {row[0]: WrappedKey(*row) for row in rows}

    def close(self) -> None:
        self._readers.close()
        with self._writing:
            if self._writer is not None:
                self._writer.close()

    def _connect(self, pauses_s: Sequence[float]) -> psycopg.Connection[Any]:
        for pause_s in pauses_s[:-1]:
            time.sleep(pause_s)
            with suppress(psycopg.OperationalError):
                return self._connect_once()
        time.sleep(pauses_s[-1])
        return self._connect_once()

    def _connect_once(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self._url, autocommit=True, **self._patience)
        register(connection)
        return connection

    def _select(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        with _translated():
            for is_last in (False, True):
                with self._readers.borrow() as connection, connection.cursor(binary=True) as cursor:
                    try:
                        return cursor.execute(query, parameters).fetchall()
                    except psycopg.OperationalError:
                        # A pooled connection may have died since it was used: take another once.
                        if is_last or not connection.closed:
                            raise
            raise AssertionError("the second round returns or raises")


def _write_tracking(connection: psycopg.Connection[Any], tracking: Tracking) -> None:
    name = tracking.application_name
    [(current, updated)] = connection.execute(
        "SELECT (SELECT notification_id FROM tracking WHERE application_name = %s), "
        "(SELECT coalesce(max(updated), 0) + 1 FROM tracking)",
        (name,),
    ).fetchall()
    try:
        check_tracking(tracking, current)
    except Exception as error:
        raise Clash from error
    root = tracking.root if isinstance(tracking, PeerTracking) else b""
    row = (name, tracking.notification_id, root, updated)
    connection.execute(_TRACK, row)
    connection.execute(_WRITE_SUM, tracking_sum(*row))


def _parameters(result: Plan, rows: Sequence[Row]) -> dict[str, Any]:
    columns = list(zip(*rows, strict=True)) or [()] * 8
    frontier, locations = result.after.frontier, result.blob_locations.values()
    return {
        "before": result.before.frontier.size,
        "incarnation": result.before.incarnation,
        "position": frontier.size,
        "frontier": frontier.to_bytes(),
        "positions": int8_array(columns[0]),
        "streams": uuid_array([stream.bytes for stream in columns[1]]),
        "versions": int8_array(columns[2]),
        "topics": text_array(columns[3]),
        "states": bytea_array([compress(plain) for plain in columns[4]]),
        "leaves": bytea_array(columns[5]),
        "origins": text_array(columns[6]),
        "origin_positions": int8_array(columns[7]),
        "levels": int8_array([node.level for node in result.nodes]),
        "indexes": int8_array([node.index for node in result.nodes]),
        "hashes": bytea_array([node.hash for node in result.nodes]),
        "digests": text_array([b.digest for b in locations]),
        "packs": text_array([b.pack for b in locations]),
        "offsets": int8_array([b.offset_bytes for b in locations]),
        "lengths": int8_array([b.length_bytes for b in locations]),
        "places": text_array(list(result.sums)),
        "sums": bytea_array(list(result.sums.values())),
        "key_calls": uuid_array([call_id.bytes for call_id in result.keys]),
        "keys": bytea_array(list(result.keys.values())),
    }


def _entry(row: Any) -> LogEntry:
    position, stream, version, topic, state, origin, place = row
    plain = decompress(state, position)
    return LogEntry(position, stream, version, topic, plain, origin, place)


def _read_head(connection: psycopg.Connection[Any]) -> Head:
    return _head(connection.execute(_HEAD).fetchall())


def _head(rows: Sequence[Any]) -> Head:
    if not rows:
        raise CorruptionError(
            "the log has no head", place="log_head", advice="restore the log from a backup"
        )
    incarnation, position, frontier = rows[0]
    try:
        return Head(incarnation, Frontier.from_bytes(position, frontier))
    except ValueError as error:
        raise CorruptionError(
            f"the log's head is damaged: {error}",
            place="log_head",
            advice="restore the log from a backup",
        ) from error


def _wait_for_lost_commit(connection: psycopg.Connection[Any]) -> None:
    """Wait until a statement of our lost connection has ended: it may hold the head row."""
    with connection.transaction():
        connection.execute("SELECT FROM log_head FOR UPDATE")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (LedgerError, Clash):
        raise
    except (errors.DataCorrupted, errors.IndexCorrupted) as error:
        raise CorruptionError(
            f"the log is damaged: {error}",
            place="PostgreSQL",
            advice="stop the server and restore the log from a backup or a mirror",
        ) from error
    except errors.DiskFull as error:
        raise NoRoomError(
            f"the disk of PostgreSQL is full ({error}); free some space there",
            retry_after_s=_NO_ROOM_RETRY_S,
        ) from error
    except psycopg.Error as error:
        raise TransientError(f"the log in PostgreSQL cannot be used now: {error}") from error
