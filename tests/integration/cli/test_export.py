"""What is exported is all that there is, the same in both formats, and other tools can read it."""

import json
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow.parquet as pq
import pytest

from ledger.configuration import load_configuration
from ledger.configuration.master_key import open_master_key
from ledger.errors import CallerError
from ledger.events import decode
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from ledger.storage.merkle import Frontier
from ledger.storage.open_recorder import open_recorder
from ledger.storage.vault import Vault
from tests.support.command_line import CommandLine
from tests.support.histories import History
from vmledger import export
from vmledger.export import ROWS, column_types, write_export
from vmledger.export_rows import Format, LogRow, Table

TABLES = [table.value for table in Table]


@pytest.fixture(scope="module")
def history() -> History:
    """Forty calls of all kinds, and what was done to their messages."""
    history = History()
    for number in range(40):
        taken = history.call(f"10{number:02}", home="bravo" if number % 4 == 0 else "alpha")
        if number % 4:
            history.act(taken, "hear")
    history.ended_call("normally", "1001")
    history.ended_call("abandoned", "1001")
    return history


@pytest.fixture
def alpha(fresh: CommandLine, history: History) -> CommandLine:
    """A server that has this history, and does not run.

    The key of the first call has not come here, that of the second is destroyed.
    """
    missing, erased, *_ = (taken.call_id for taken in history.taken)
    write(fresh, history, missing=[missing], erased=[erased])
    return fresh


def write(
    fresh: CommandLine,
    history: History,
    *,
    missing: Sequence[UUID] = (),
    erased: Sequence[UUID] = (),
) -> None:
    """Make a history that of a server; keys of some calls are not here, or are destroyed."""
    assert fresh.config is not None
    config = load_configuration(fresh.config)
    recorder = open_recorder(config.stores.events)
    vault = Vault(recorder, open_master_key(config.identity), os.urandom)
    events = [to_stored_event(decode(entry.plain)) for entry in history.log.read(1, 10_000)]
    calls = [taken.call_id for taken in history.taken]
    known = [call_id for call_id in calls if call_id not in (*missing, *erased)]
    keys = [vault.wrap(history.vault.key(call_id)) for call_id in known]
    (done,) = recorder.commit([Append(events, keys=[*keys, *vault.destroy(erased)])])
    assert not isinstance(done, Exception)
    recorder.close()


def exported(alpha: CommandLine, table: str, form: str = "ndjson") -> Path:
    path = alpha.folder / f"{table}.{form}"
    alpha("export", table, "--format", form, "--output", path)
    return path


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_log_has_every_event_and_its_tree_is_that_of_the_log(alpha: CommandLine, history: History):
    found = rows(exported(alpha, "log"))
    events = history.log.read(1, 10_000)
    assert [row["event"].encode() for row in found[: len(events)]] == [e.plain for e in events]
    assert [row["position"] for row in found] == list(range(1, len(events) + 2))
    tree = Frontier().append(bytes.fromhex(row["leaf_hash"]) for row in found)
    assert tree.root().hex() == alpha("log", "checkpoint", "--json").json["root"]


def test_export_is_recorded_before_it_is_made(alpha: CommandLine):
    last = rows(exported(alpha, "audit"))[-1]
    assert (last["action"], last["what"], last["by"]) == ("exported", "audit", "command-line")
    assert last["user"]
    told = alpha("audit", "--by", "command-line").out
    assert "exported audit" in told


def test_calls_and_messages_are_all_there(alpha: CommandLine):
    assert len(rows(exported(alpha, "calls"))) == 42
    messages = rows(exported(alpha, "messages"))
    assert len(messages) == len({message["message_id"] for message in messages}) == 40
    assert {message["status"] for message in messages} == {"new", "heard"}
    heard = [row for row in rows(exported(alpha, "audit")) if row["action"] == "message-heard"]
    assert len(heard) == 30


@pytest.mark.parametrize("table", ["calls", "messages"])
def test_each_caller_is_named_or_it_is_said_why_not(
    alpha: CommandLine, history: History, table: str
):
    found = {row["call_id"]: row for row in rows(exported(alpha, table))}
    shown = [
        (row["caller_state"], row["caller_number"], row["caller_name"])
        for row in (found[str(taken.call_id)] for taken in history.taken)
    ]
    assert shown[:2] == [("sealed", None, None), ("erased", None, None)]
    assert set(shown[2:]) == {("known", "+49301234", "Ann")}


def test_exported_log_names_nobody(alpha: CommandLine):
    assert "49301234" not in exported(alpha, "log").read_text()


def test_export_of_what_stopped_at_an_event_is_refused_rather_than_short(fresh: CommandLine):
    history = History()
    taken = history.call("1001")
    history.act(replace(taken, message_id=UUID(int=7)), "hear")
    culprit = history.position
    history.call("1002")
    write(fresh, history)
    short = fresh.folder / "messages.ndjson"
    refused = fresh("export", "messages", "--output", short, code=1)
    assert f"(at position {culprit})" in refused.err
    assert not short.exists()
    assert len(rows(exported(fresh, "calls"))) == 2


@pytest.mark.parametrize("table", TABLES)
def test_both_formats_hold_the_same(alpha: CommandLine, table: str):
    parquet = pq.read_table(exported(alpha, table, "parquet")).to_pylist()
    lines = rows(exported(alpha, table))
    if table in ("log", "audit"):
        assert len(lines) == len(parquet) + 1  # that the first was exported
        lines = lines[:-1]
    for line, row in zip(lines, parquet, strict=True):
        for name, value in row.items():
            is_time = isinstance(value, datetime)
            assert value == (datetime.fromisoformat(line[name]) if is_time else line[name])


@pytest.mark.parametrize("table", Table)
def test_columns_of_a_parquet_file_are_those_that_are_documented(alpha: CommandLine, table: Table):
    page = (Path(__file__).parents[3] / "docs" / "reference" / "export.md").read_text()
    section = page.split(f"## {table.value}\n")[1].split("\n## ")[0]
    documented = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `")]
    schema = pq.read_schema(exported(alpha, table.value, "parquet"))
    found = [
        (f.name, str(f.type).replace("element: ", "").replace("tz=", ""), f.nullable)
        for f in schema
    ]
    assert found == [
        (name.strip(" `"), kind.strip(), null.strip() == "null") for name, kind, null in documented
    ]
    assert [name for name, *_ in found] == list(ROWS[table].__struct_fields__)


def test_duckdb_reads_both(alpha: CommandLine):
    parquet, lines = exported(alpha, "messages", "parquet"), exported(alpha, "calls")
    query = f"""
        SELECT count(*), count(DISTINCT c.called_extension)
        FROM '{parquet}' m JOIN '{lines}' c ON CAST(m.call_id AS UUID) = c.call_id
    """
    assert duckdb.sql(query).fetchall() == [(40, 40)]


def test_file_is_its_owners_and_not_overwritten_unasked(alpha: CommandLine):
    path = exported(alpha, "messages")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "exists" in alpha("export", "messages", "--output", path, code=2).err
    alpha("export", "messages", "--output", path, "--force")


def test_directory_is_no_file_to_overwrite(alpha: CommandLine):
    said = alpha("export", "log", "--output", ".", "--force", code=2).err
    assert "is a directory" in said


def test_without_pyarrow_parquet_is_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what an import finds that is not installed
    with pytest.raises(CallerError, match=r"voicemail-ledger\[parquet\]"):
        write_export(tmp_path / "log.parquet", Table.LOG, Format.PARQUET, [])
    assert list(tmp_path.iterdir()) == []


def many(count: int):
    for position in range(1, count + 1):
        yield LogRow(
            position=position,
            stream=UUID(int=position),
            version=1,
            topic="x",
            recorded_at=datetime.fromisoformat("2026-01-01T00:00:00Z"),
            recorded_by="alpha",
            origin=None,
            origin_position=None,
            leaf_hash="00" * 32,
            event="{}",
        )


@pytest.mark.parametrize("form", Format)
def test_rows_are_written_as_they_are_read(tmp_path, form, monkeypatch):
    """A row group at a time: what is in memory does not grow with the log."""
    monkeypatch.setattr(export, "_ROW_GROUP", 100)
    path = tmp_path / "file"
    waiting = 0

    def counted():
        nonlocal waiting
        for number, row in enumerate(many(5000)):
            size = (tmp_path / "file.new").stat().st_size if number > 3000 else 1
            assert size
            waiting += 1
            yield row

    assert write_export(path, Table.LOG, form, counted()) == waiting == 5000
    if form is Format.PARQUET:
        assert pq.ParquetFile(path).num_row_groups == 50


def test_export_that_fails_leaves_no_file(tmp_path):
    def failing():
        yield from many(10)
        raise CallerError("it broke")

    with pytest.raises(CallerError):
        write_export(tmp_path / "log", Table.LOG, Format.NDJSON, failing())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", Table)
def test_every_column_has_a_type_that_the_formats_know(table: Table):
    assert set(column_types(ROWS[table])) == set(ROWS[table].__struct_fields__)
