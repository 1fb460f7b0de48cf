"""A real PostgreSQL without a connection to spare, or away for a while, under a real server."""

import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor, wait
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from tests.support.pair import Client, eventually, set_keys, write_pair

CONNECTIONS = 12
"""That the server's role may have: it uses fewer."""
CROWD = "crowd"
NUMBERS = itertools.count(1)


class Database:
    """A database of its own, for a role that may have a few connections only."""

    def __init__(self, admin_url):
        self.admin_url = admin_url
        self.name = urlsplit(admin_url).path[1:]
        self.role = f"few_{self.name}_{next(NUMBERS)}"
        self.url = admin_url.replace("//postgres:@", f"//{self.role}@")
        assert self.url != admin_url, admin_url
        self.admin(f"CREATE ROLE {self.role} LOGIN CONNECTION LIMIT {CONNECTIONS}")
        self.admin(f"ALTER DATABASE {self.name} OWNER TO {self.role}")

    def admin(self, statement):
        with psycopg.connect(self.admin_url, dbname="postgres", autocommit=True) as connection:
            connection.execute(statement)

    def cut(self):
        """End all connections of the server."""
        self.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE usename = '{self.role}' AND application_name <> '{CROWD}'"
        )

    @contextlib.contextmanager
    def away(self):
        """Take no connections, and end those that are open."""
        self.admin(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self.cut()
        try:
            yield
        finally:
            self.admin(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    @contextlib.contextmanager
    def crowded(self, *, entirely=False):
        """Take every connection that is left; ``entirely``: those of the server, too."""
        with contextlib.ExitStack() as stack:
            taken = self._take_all(stack)
            while entirely and taken < CONNECTIONS:
                self.cut()
                taken += self._take_all(stack)
            yield

    def _take_all(self, stack):
        """Take what is left; gives how many that were."""
        count = 0
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(psycopg.connect(self.url, application_name=CROWD))
                count += 1
        return count


@pytest.fixture
def database(postgres):
    admin_url = postgres.new_database(with_schema=False)
    database = Database(admin_url)
    yield database
    postgres.drop_database(admin_url)
    database.admin(f"DROP ROLE {database.role}")


@pytest.fixture
def alpha(servers, database, tmp_path):
    config = write_pair(tmp_path)["alpha"]
    set_keys(config, events=database.url)
    server = servers.add(config)
    server.start()
    yield Client(server)
    server.kill9()


def is_turned_away(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and int(answer.headers["retry-after"]) > 0


def read_log(alpha):
    return alpha.http.get("/v1/log", params={"limit": 1000})


def report(alpha):
    return alpha.http.post("/v1/calls", json={"called_extension": "1001", "status": "busy"})


def test_calls_are_recorded_while_questions_find_no_connection(alpha, database):
    report(alpha)
    with database.crowded(), ThreadPoolExecutor(30) as crowd:
        questions = [crowd.submit(read_log, alpha) for _ in range(20)]
        calls = [crowd.submit(report, alpha) for _ in range(10)]
        assert [call.result().status_code for call in calls] == [201] * 10
        for question in questions:
            answer = question.result()
            assert answer.status_code == 200 or is_turned_away(answer)


def test_without_any_connection_all_are_turned_away_in_time_and_served_afterwards(alpha, database):
    report(alpha)
    with database.crowded(entirely=True):
        assert is_turned_away(read_log(alpha))
        assert alpha.http.get("/readyz").json()["checks"]["log"] != "ok"
        assert is_turned_away(report(alpha))
    eventually(lambda: report(alpha).status_code == 201)
    assert read_log(alpha).status_code == 200


def test_a_call_that_comes_while_postgres_is_away_waits_and_is_stored(alpha, database):
    report(alpha)
    with ThreadPoolExecutor(1) as switch:
        with database.away():
            call = switch.submit(report, alpha)
            assert not wait([call], timeout=1.0).done, "it waits"
        assert call.result().status_code == 201
    eventually(lambda: alpha.http.get("/readyz").status_code == 200)


def test_questions_are_turned_away_in_time_while_postgres_is_away(alpha, database):
    report(alpha)
    with database.away():
        assert is_turned_away(read_log(alpha))
    eventually(lambda: read_log(alpha).status_code == 200)


def test_numbers_for_monitoring_come_while_postgres_is_away(alpha, database):
    alpha.http.get("/metrics")
    with database.away():
        assert alpha.metric("vmledger_disk_free_bytes") > 0
