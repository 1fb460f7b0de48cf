"""Upgrades a database again and again, killed at every statement in turn, until one is finished.

Run as a process: ``python -m tests.integration.storage.killed_upgrade URL``. Prints, for each kill,
the number of tables that were there afterwards, and at the end ``done``.
"""

import itertools
import os
import signal
import sys
from typing import Any

import sqlalchemy as sa

from ledger.storage.open_recorder import sqlalchemy_url, upgrade


def _upgrade_killed_at(url: str, number: int) -> None:
    seen = itertools.count(1)

    def strike(*_: Any) -> None:
        if next(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "before_cursor_execute", strike)
    sa.event.listen(sa.Engine, "commit", strike)
    upgrade(url)


def _tables(url: str) -> int:
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    tables = sa.inspect(engine).get_table_names()
    engine.dispose()
    return len(tables)


def main(url: str) -> None:
    for number in itertools.count(1):
        child = os.fork()
        if child == 0:
            _upgrade_killed_at(url, number)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            print("done", flush=True)
            return
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        print(_tables(url), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
