"""Schema migrations on the real databases: they build what is declared, even when killed."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

import migrations
from ledger.errors import CallerError, TransientError
from ledger.storage.event_log import Append
from ledger.storage.open_recorder import open_recorder, sqlalchemy_url, upgrade
from ledger.storage.schema import METADATA, NEWEST_REVISION, PROTECTION
from tests.support.postgres import Postgres
from tests.support.stored_events import stored_event

NewDatabase = Callable[[], str]

SCRIPTS = ScriptDirectory(str(Path(migrations.__file__).parent))
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()][::-1]


def test_declared_newest_revision_is_the_newest_script():
    assert SCRIPTS.get_current_head() == NEWEST_REVISION


@pytest.fixture(params=["sqlite", "postgres"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Make databases without any table."""
    if request.param == "postgres":
        postgres: Postgres = request.getfixturevalue("postgres")
        made: list[str] = []

        def new_postgres() -> str:
            made.append(postgres.new_database(with_schema=False))
            request.addfinalizer(lambda url=made[-1]: postgres.drop_database(url))
            return made[-1]

        return new_postgres
    paths = (tmp_path / f"{number}.sqlite" for number in range(100))
    return lambda: f"sqlite:///{next(paths)}"


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


POSTGRES_CATALOG = """
SELECT table_name, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> {0};
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> {0};
SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> {0};
SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal;
SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace;
SELECT relname, relacl::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> {0}
"""


def _catalog(url: str) -> list[tuple[Any, ...]]:
    """Give all that the database says of its own structure."""
    if url.startswith("sqlite"):
        rows = _rows(url, "SELECT type, name, tbl_name, sql FROM sqlite_master")
        kept = [row for row in rows if row[2] != "alembic_version"]
        found = [(*row[:3], re.sub(r"\s+", " ", row[3] or "")) for row in kept]
    else:
        found = []
        for query in POSTGRES_CATALOG.split(";"):
            found += _rows(url, query.format("'alembic_version'"))
    return sorted(found, key=str)


def _declare(url: str) -> None:
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        METADATA.create_all(connection)
        for statement in PROTECTION[engine.dialect.name]:
            connection.exec_driver_sql(statement.replace("%", "%%"))


@pytest.mark.parametrize("revision", [None, *REVISIONS])
def test_migrations_from_every_revision_build_the_declared_schema(
    new_database: NewDatabase, revision: str | None
) -> None:
    declared, migrated = new_database(), new_database()
    _declare(declared)

    if revision is not None:
        upgrade(migrated, to=revision)
    upgrade(migrated)

    assert _catalog(migrated) == _catalog(declared)
    assert len(_catalog(declared)) > len(METADATA.tables)


def test_history_of_revisions_is_one_line() -> None:
    assert len(SCRIPTS.get_heads()) == 1
    assert len(REVISIONS) == len(set(REVISIONS))


def test_new_log_gets_an_incarnation_of_its_own(new_database: NewDatabase) -> None:
    heads = [open_recorder(new_database()) for _ in range(2)]

    incarnations = {recorder.head().incarnation for recorder in heads}

    assert len(incarnations) == 2
    for recorder in heads:
        recorder.close()


def test_upgrade_of_an_upgraded_database_changes_nothing(new_database: NewDatabase) -> None:
    url = new_database()
    upgrade(url, incarnation=UUID(int=7))
    recorder = open_recorder(url)
    recorder.commit([Append([stored_event(1, 1)])])
    before = recorder.head()

    upgrade(url)

    assert recorder.head() == before
    assert before.incarnation == UUID(int=7)
    recorder.close()


def test_database_of_a_newer_program_is_refused_and_left_alone(new_database: NewDatabase) -> None:
    url = new_database()
    upgrade(url)
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = _catalog(url)

    with pytest.raises(CallerError, match="9999"):
        open_recorder(url)

    assert _catalog(url) == before
    assert _rows(url, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_password_of_a_refused_database_is_not_shown(postgres_url: str) -> None:
    engine = sa.create_engine(sqlalchemy_url(postgres_url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(CallerError) as caught:
        upgrade(postgres_url.replace("postgres:@", "postgres:secret-word@"))

    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://host/name",
        "ledger.sqlite",
        "postgresql",
        "sqlite://",
        "sqlite:///",
        "postgresql://h:x/",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(CallerError, match="sqlite:///"):
        open_recorder(url)


def test_file_name_with_spaces_and_percent_is_the_one_in_the_url(tmp_path: Path) -> None:
    recorder = open_recorder(f"sqlite:///{tmp_path}/my%20log 1.sqlite")
    recorder.close()

    assert [path.name for path in tmp_path.glob("*.sqlite")] == ["my log 1.sqlite"]


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/ledger.sqlite", "postgresql://nobody:secret@127.0.0.1:1/x"]
)
def test_database_that_is_away_is_a_transient_error_without_its_password(url: str) -> None:
    with pytest.raises(TransientError, match="cannot be used now") as caught:
        open_recorder(url)

    assert "secret" not in str(caught.value)


def test_processes_that_start_together_take_turns(new_database: NewDatabase) -> None:
    url = new_database()
    code = "import sys; from ledger.storage.open_recorder import upgrade; upgrade(sys.argv[1])"

    programs = [
        subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    errors = [program.communicate()[1] for program in programs]

    assert [program.returncode for program in programs] == [0, 0, 0], errors
    assert _rows(url, "SELECT count(*) FROM log_head") == [(1,)]
    assert _rows(url, "SELECT count(*) FROM alembic_version") == [(1,)]


def test_upgrade_killed_at_any_statement_leaves_nothing_and_can_be_repeated(
    new_database: NewDatabase,
) -> None:
    url, declared = new_database(), new_database()
    _declare(declared)
    command = [sys.executable, "-m", "tests.integration.storage.killed_upgrade", url]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    *kills, last = done.stdout.split()
    assert last == "done"
    assert len(kills) > len(METADATA.tables)
    assert set(kills) == {"0"}
    assert _catalog(url) == _catalog(declared)
    assert _rows(url, "SELECT count(*) FROM log_head") == [(1,)]


def test_sqlite_log_is_durable_by_its_own_settings(tmp_path: Path) -> None:
    recorder = open_recorder(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    writer: sqlite3.Connection = recorder._writer  # type: ignore[attr-defined]

    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
    recorder.close()
