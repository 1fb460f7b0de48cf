"""Throw-away stores for benchmarks: a folder on the real disk, a real PostgreSQL server."""

from __future__ import annotations

import gc
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from tests.support.postgres import Postgres, running_postgres
from vmledger.main import OBJECTS_A_COLLECTION


@contextmanager
def new_stores() -> Iterator[tuple[Path, Postgres]]:
    """Give a folder and a server; both are gone afterwards."""
    # Beside the program, not in /tmp: that may be memory, where a sync costs nothing.
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, running_postgres() as postgres:
        yield Path(folder), postgres


def spare_what_is_prepared() -> None:
    """Let Python look for garbage as seldom as the program does, and not among what is there now.

    To search that again and again would be charged to whoever allocates most.
    """
    gc.set_threshold(OBJECTS_A_COLLECTION)
    gc.collect()
    gc.freeze()


def rates(rounds: int, works: Sequence[Callable[[], int]]) -> list[float]:
    """Run the works in turns, ``rounds`` times; give the median of each one's items a second."""
    spare_what_is_prepared()
    figures: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        order = list(enumerate(works))
        for index, work in order if number % 2 else reversed(order):
            start = perf_counter()
            items = work()
            figures[index].append(items / (perf_counter() - start))
    return [statistics.median(figure) for figure in figures]
