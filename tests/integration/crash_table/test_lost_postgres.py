"""Whole use cases while PostgreSQL's answers are lost and its backends are killed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from ledger.errors import TransientError
from ledger.storage.postgres import PostgresLogRecorder
from tests.integration.crash_table.conftest import empty
from tests.integration.crash_table.table import come_to_rest, steps_of
from tests.integration.crash_table.use_cases import USE_CASES, UseCase
from tests.integration.crash_table.world import World, live, make_memory_log
from tests.support.lossy_proxy import LossyProxy

NAMES = [
    "take-a-call",
    "record-at-home",
    "record-for-a-present-home",
    "receive-a-batch",
    "record-a-receipt",
    "act-at-home",
]
COMMITS = [
    (name, number)
    for name in NAMES
    for number, step in enumerate(steps_of(USE_CASES[name], make_memory_log), 1)
    if step.startswith("commit")
]
at_every_commit = pytest.mark.parametrize(("name", "number"), COMMITS)


def misfortune_at(
    number: int, strike: Callable[[str], None], case: UseCase
) -> Callable[[World], Awaitable[list[str]]]:
    """Give a story: the use case, with a misfortune just before one of its commits."""

    async def story(world: World) -> list[str]:
        await case.prepare(world)
        steps = world.crashing.steps

        def before_step(step: str) -> None:
            if len(steps.taken) == number:
                strike(step)

        steps.before_step = before_step
        try:
            await case.act(world)
        except TransientError:
            # Whoever is told that it did not work now tries again.
            assert case.repeat is not None
            await case.repeat(world)
        assert len(steps.taken) >= number
        return await come_to_rest(world, case)

    return story


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[LossyProxy]:
    folder = parse_qs(urlsplit(postgres_url).query)["host"][0]

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{folder}/.s.PGSQL.5432")
        return server

    proxy = LossyProxy(connect)
    yield proxy
    proxy.close()


@at_every_commit
def test_answer_that_is_lost_after_the_commit_neither_loses_nor_doubles_anything(
    name: str, number: int, postgres_url: str, proxy: LossyProxy
) -> None:
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}{urlsplit(postgres_url).path}"
    case = USE_CASES[name]

    def lose_the_answer(step: str) -> None:
        is_transaction = "how far" in step
        proxy.lose_answer_with(b"COMMIT\x00" if is_transaction else b"SELECT 1\x00")

    def make_log() -> Callable[[], PostgresLogRecorder]:
        empty(postgres_url)
        return lambda: PostgresLogRecorder(url)

    story = misfortune_at(number, lose_the_answer, case)
    assert live(lambda: World(case.crashing, None, make_log), story) == []
    assert proxy.lost == 1


@at_every_commit
def test_backend_that_is_killed_in_the_middle_of_a_commit_loses_and_doubles_nothing(
    name: str, number: int, postgres_url: str, make_postgres_log
) -> None:
    case = USE_CASES[name]
    killers: list[Killer] = []

    def kill_the_backend(_step: str) -> None:
        killers.append(Killer(postgres_url))

    story = misfortune_at(number, kill_the_backend, case)
    assert live(lambda: World(case.crashing, None, make_postgres_log), story) == []
    [killer] = killers
    assert killer.join() == 1


class Killer:
    """Holds the head of the log until a commit waits for it, and ends that commit's backend."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url)
        self._connection.execute("SELECT FROM log_head FOR UPDATE")
        self._killed = 0
        self._thread = threading.Thread(target=self._kill)
        self._thread.start()

    def join(self) -> int:
        """Wait for the end; gives how many backends were killed."""
        self._thread.join()
        return self._killed

    def _kill(self) -> None:
        with self._connection as connection:
            while not self._killed:
                self._killed = connection.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
                ).fetchone()[0]
