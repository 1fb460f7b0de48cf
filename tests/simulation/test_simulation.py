"""Whole servers under seeded faults keep every promise; and the same seed is the same run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, ROOT
from tests.simulation.schedules import draw_schedule
from tests.simulation.story import shrink, tell
from tests.simulation.world import World, graveyard

KEPT = [
    int(line.split()[0])
    for line in Path(__file__).with_name("kept_seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
FRESH = 300
"""Seeds that every run of the tests tries."""


@pytest.fixture(autouse=True)
def bury() -> Iterator[Callable[[], None]]:
    logging.disable(logging.CRITICAL)
    with graveyard() as bury:
        yield bury
    logging.disable(logging.NOTSET)


def expect_no_failure(seed: int) -> World:
    world = World(draw_schedule(seed))
    if world.run():
        lines: list[str] = []
        tell(*shrink(world.schedule), lines.append)
        pytest.fail("\n".join(lines), pytrace=False)
    return world


@pytest.mark.parametrize("seed", KEPT)
def test_seed_that_once_failed_keeps_every_promise(seed):
    expect_no_failure(seed)


def test_fresh_seeds_keep_every_promise(bury):
    accepted = sent = 0
    for seed in range(100_000, 100_000 + FRESH):
        world = expect_no_failure(seed)
        accepted += len(world.told.accepted)
        sent += world.network.sent
        if seed % 50 == 0:
            bury()
    assert accepted > FRESH, "the schedules place calls"
    assert sent > 10 * FRESH, "the servers talk to each other"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_deliberate_fault_fits_the_code(mutant):
    """The hunt for them takes long; this only sees that each can still be put into its file."""
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.old != mutant.new


def test_same_seed_is_the_same_run_in_another_process():
    """Also with other hashes of strings: nothing may depend on the order of a set."""
    traces = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--first=7", "--schedules=30", "--trace"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(traces) == 1
    assert len(set(traces.pop().split())) > 25, "different seeds are different runs"
