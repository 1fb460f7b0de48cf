"""One changed bit anywhere in what a real server keeps is found, and its place is named."""

from __future__ import annotations

import contextlib
import io
import random
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from ledger.errors import CorruptionError
from ledger.storage.compression import decompress
from tests.support.pair import Client, write_pair
from tests.support.processes import ServerDiedError, Servers, wait_for
from vmledger.main import app, run

COMMAND = get_command(app)
"""Built once: that takes longer than a verification of this small log."""
SETTLE_S = 90.0
FLIPS = 3
"""Bits that are flipped of each kind of place, one after the other."""
BYTES = 100
"""Bytes of the database file that are flipped, one after the other."""

HINTS = {"peer_cursor"}
"""Tables of which nothing is relied on."""

pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Told:
    """What a command said, and how it ended."""

    code: int
    out: str


def vmledger(folder: Path, *words: str) -> Told:
    """Run a command in this process."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        line = [*words, "--config", str(folder / "vmledger.toml")]
        code = run(lambda: COMMAND.main(line, prog_name="vmledger", standalone_mode=False))
    return Told(code, out.getvalue())


def verified(folder: Path) -> Told:
    return vmledger(folder, "log", "verify", "--blobs")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alpha's folder: it served both as origin and as home, and was stopped."""
    files = write_pair(tmp_path_factory.mktemp("pair"))
    folder = files["alpha"].parent
    with Servers(list(files.values())) as servers:
        servers.start_all()
        alpha, bravo = Client(servers["alpha"]), Client(servers["bravo"])
        for _ in range(62):
            alpha.leave("1001")
        for _ in range(3):
            alpha.leave("2001")
            bravo.leave("1002")
        assert wait_for(lambda: alpha.pending() + bravo.pending() == 0, SETTLE_S)
        assert vmledger(folder, "token", "create", "desk", "--scope", "reader").code == 0
        assert wait_for(lambda: "by bravo up to" in verified(folder).out, SETTLE_S, 0.5)
        assert servers["alpha"].stop() == 0
    assert verified(folder).code == 0, verified(folder).out
    assert "log    intact" in re.sub(" +", "    ", verified(folder).out)
    return folder


@pytest.fixture
def copy(site: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(site, tmp_path / "alpha"))


def database(folder: Path) -> Path:
    return folder / "data" / "ledger.sqlite"


def change(folder: Path, statement: str, *values: object) -> None:
    """Change one row behind the back of what protects it, and leave that as it was."""
    with closing(sqlite3.connect(database(folder))) as connection, connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        kept = triggers.fetchall()
        for name, _ in kept:
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement, values).rowcount == 1
        for _, sql in kept:
            connection.execute(sql)


def flipped(value: Any, rng: random.Random) -> Any:
    """Flip one bit of a column's value; of text the bytes are given, and may be none any more."""
    if isinstance(value, int):
        return value ^ (1 << rng.randrange(8))
    data = bytearray(value.encode() if isinstance(value, str) else value)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


COLUMNS = {
    # column: condition on the row, and what names the place for a row with this key
    "events.state": ("position", "1", "position {key}\\b"),
    "events.leaf_hash": ("position", "1", "position {key}\\b"),
    "events.originator_id": ("position", "1", "position {key}\\b"),
    "events.originator_version": ("position", "1", "position {key}\\b"),
    "events.topic": ("position", "1", "position {key}\\b"),
    "events.position": ("position", "1", "position {key}\\b"),
    "events.origin": ("position", "origin IS NOT NULL", "origin of position"),
    "events.origin_position": ("position", "origin IS NOT NULL", "origin of position"),
    "tree_node.hash": ("idx", "1", "positions 1 to 256"),
    "tree_node.level": ("idx", "1", "positions 1 to 256"),
    "tree_node.idx": ("idx", "1", "positions 1 to 256"),
    "log_head.incarnation": ("id", "1", "log_head"),
    "log_head.position": ("id", "1", "log.head"),
    "log_head.frontier": ("id", "1", "log.head"),
    "tracking.application_name": ("rowid", "1", "tracking of "),
    "tracking.notification_id": ("rowid", "1", "tracking of bravo/"),
    "tracking.root": ("rowid", "1", "tracking of bravo/"),
    "tracking.updated": ("rowid", "1", "tracking of bravo/"),
    "cosigned_checkpoint.log": ("rowid", "1", "checkpoint of "),
    "cosigned_checkpoint.witness": ("rowid", "1", "checkpoint of "),
    "cosigned_checkpoint.size": ("rowid", "1", "checkpoint of "),
    "cosigned_checkpoint.note": ("rowid", "1", "checkpoint of "),
    "blob_location.digest": ("rowid", "1", "place of blob "),
    "blob_location.pack": ("rowid", "1", "place of blob "),
    "blob_location.offset_bytes": ("rowid", "1", "place of blob "),
    "blob_location.length_bytes": ("rowid", "1", "place of blob "),
    "access_token.id": ("rowid", "1", "access token "),
    "access_token.name": ("rowid", "1", "access token "),
    "access_token.digest": ("rowid", "1", "access token "),
    "access_token.scopes": ("rowid", "1", "access token "),
    "access_token.created_at": ("rowid", "1", "access token "),
    "message_key.call_id": ("rowid", "1", "key of call "),
    "message_key.wrapped": ("rowid", "1", "key of call "),
    "row_sum.place": ("rowid", "1", "origin of |tracking of |place of |log_head|access token "),
    "row_sum.sum": ("rowid", "1", "origin of |tracking of |place of |log_head|access token "),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_flipped_bit_of_a_column_is_found_and_its_place_named(copy: Path, column: str):
    table, _, name = column.partition(".")
    key_name, condition, place = COLUMNS[column]
    clean = database(copy).read_bytes()
    rng = random.Random(column)
    for _ in range(FLIPS):
        database(copy).write_bytes(clean)
        with closing(sqlite3.connect(database(copy))) as connection:
            query = f"SELECT {key_name}, {name} FROM {table} WHERE {condition}"
            key, value = rng.choice(connection.execute(query).fetchall())
        after = flipped(value, rng)
        new = "CAST(? AS TEXT)" if isinstance(value, str) else "?"
        try:
            change(copy, f"UPDATE {table} SET {name} = {new} WHERE {key_name} = ?", after, key)
        except sqlite3.IntegrityError:
            continue  # the database itself sees that there is another such row
        told = verified(copy)
        assert told.code == 1, f"{value!r} became {after!r} unseen\n{told.out}"
        assert re.search(place.format(key=key), told.out), told.out


def test_every_column_of_the_durable_tables_is_flipped_or_excused(site: Path):
    """The columns left out are in no way relied on; the page for operators says so."""
    excused = {
        "log_head.id",  # there is one row
        "access_token.mailboxes", "access_token.expires_at", "access_token.revoked_at",  # below
    }  # fmt: skip
    with closing(sqlite3.connect(database(site))) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name not in {"peer_cursor", "alembic_version"}
        ]
        columns = {
            f"{table}.{row[1]}"
            for table in tables
            for row in connection.execute(f"PRAGMA table_info({table})")
        }
    assert columns == COLUMNS.keys() | excused


@pytest.mark.parametrize(
    ("column", "value"),
    [("mailboxes", "1001@default"), ("expires_at", "2036-01-01"), ("revoked_at", "2026-01-01")],
)
def test_right_of_a_token_that_appeared_by_itself_is_found(copy: Path, column: str, value: str):
    change(copy, f"UPDATE access_token SET {column} = ? WHERE name = 'desk'", value)
    assert re.search("access token .*checksum", verified(copy).out)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM tracking WHERE rowid = (SELECT min(rowid) FROM tracking)",
        "DELETE FROM blob_location WHERE rowid = (SELECT min(rowid) FROM blob_location)",
        "DELETE FROM access_token WHERE name = 'desk'",
    ],
)
def test_row_that_is_gone_is_found(copy: Path, statement: str):
    change(copy, statement)
    assert "what it covers is gone" in verified(copy).out


@pytest.mark.parametrize("seed", range(FLIPS))
def test_flipped_bit_of_the_schemas_number_keeps_the_server_from_starting(copy: Path, seed: int):
    after = flipped("0004", random.Random(seed))
    change(copy, "UPDATE alembic_version SET version_num = CAST(? AS TEXT)", after)
    told = verified(copy)
    assert told.code != 0
    assert "ledger.sqlite" in told.out
    with Servers([copy / "vmledger.toml"]) as servers, pytest.raises(ServerDiedError) as died:
        servers["alpha"].start()
    assert "ledger.sqlite" in str(died.value)


@pytest.mark.parametrize("name", ["events_refuse_update", "tree_node_refuse_delete"])
def test_lost_protection_of_the_log_is_found(copy: Path, name: str):
    with closing(sqlite3.connect(database(copy))) as connection, connection:
        connection.execute(f"DROP TRIGGER {name}")
    assert f"schema of {name}" in verified(copy).out


@pytest.mark.parametrize("kind", ["loose", "pack"])
def test_flipped_bit_of_a_recording_is_found(copy: Path, kind: str):
    rng = random.Random(kind)
    folder = copy / "data" / "blobs"
    found = [f for f in folder.rglob("*") if f.is_file()]
    files = [f for f in sorted(found) if ("pack" in str(f.relative_to(folder))) == (kind == "pack")]
    assert files
    for _ in range(FLIPS):
        file = rng.choice(files)
        before = file.read_bytes()
        file.chmod(0o600)
        file.write_bytes(flipped(before, rng))
        told = verified(copy)
        file.write_bytes(before)
        assert told.code == 1
        assert re.search(r"damaged: [0-9a-f]{64} in \S*" + re.escape(file.name), told.out), told.out


@pytest.mark.parametrize("file", ["server.key", "tls.key", "tls.crt", "master.key"])
def test_damaged_key_or_certificate_keeps_the_server_from_starting(copy: Path, file: str):
    (path,) = copy.rglob(file)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80
    path.write_bytes(data)
    with Servers([copy / "vmledger.toml"]) as servers, pytest.raises(ServerDiedError) as died:
        servers["alpha"].start()
    assert file in str(died.value)


OTHERS = ("7", "1.5", "x'fffe'", "CAST(x'fffe' AS TEXT)", "NULL")


@pytest.mark.parametrize("column", COLUMNS)
def test_column_that_holds_another_kind_of_value_is_found(copy: Path, column: str):
    """SQLite keeps the kind of each value beside it: there too a bit may flip.

    (No flip makes NULL of a wrapped key. NULL is the note that it was destroyed.)
    """
    table, _, name = column.partition(".")
    key_name, condition, place = COLUMNS[column]
    clean = database(copy).read_bytes()
    for other in OTHERS[: -1 if column == "message_key.wrapped" else None]:
        database(copy).write_bytes(clean)
        with closing(sqlite3.connect(database(copy))) as connection:
            query = f"SELECT {key_name}, {name} FROM {table} WHERE {condition}"
            key, before = connection.execute(query).fetchall()[-1]
        try:
            change(copy, f"UPDATE {table} SET {name} = {other} WHERE {key_name} = ?", key)
        except sqlite3.Error:
            continue  # no such value is ever there
        with closing(sqlite3.connect(database(copy))) as connection:
            connection.text_factory = bytes
            query = f"SELECT {name} FROM {table} WHERE {key_name} IS ?"
            if [(before,)] == connection.execute(query, (key,)).fetchall():
                continue  # it is the same
        told = verified(copy)
        assert told.code == 1, (other, told.out)
        assert re.search(place.format(key=key), told.out), (other, told.out)


def content(file: Path) -> Any:
    """Give all that is relied on in a database, also by its indexes; or how that fails.

    Of an event, what it says: some bits of its frame mean nothing.
    """
    with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as connection:
        connection.text_factory = bytes
        schema = connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master"
        ).fetchall()
        tables = {name.decode() for kind, name, *_ in schema if kind == b"table"} - HINTS
        rows = {t: connection.execute(f"SELECT * FROM {t}").fetchall() for t in sorted(tables)}
        rows["events"] = [
            (*row[:4], decompress(row[4], row[0]), *row[5:]) for row in rows["events"]
        ]
        stream = (
            "SELECT position, originator_id, originator_version "
            "FROM events INDEXED BY events_stream ORDER BY originator_id, originator_version"
        )
        return schema, rows, connection.execute(stream).fetchall()


def is_as_before(file: Path, before: Any) -> bool:
    try:
        return bool(content(file) == before)
    except (sqlite3.Error, ValueError, TypeError, OverflowError, MemoryError, CorruptionError):
        return False


def test_flipped_bit_of_any_byte_of_the_database_file_is_found_or_changes_nothing(copy: Path):
    """Nothing: it lies where no page is used. Hints about peers are not relied on."""
    file = database(copy)
    clean, before = file.read_bytes(), content(file)
    rng = random.Random(540)
    unseen, seen = [], 0
    for _ in range(BYTES):
        place = rng.randrange(len(clean))
        data = bytearray(clean)
        data[place] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        if is_as_before(file, before):
            continue
        told = verified(copy)
        seen += told.code != 0
        if told.code == 0:
            unseen.append(place)
        assert "Traceback" not in told.out
    assert not unseen
    assert seen > BYTES // 4
