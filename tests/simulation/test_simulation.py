"""Whole servers under seeded faults keep every promise; and the same seed is the same run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.simulation import kept
from tests.simulation.kept import kept_paths, read_kept
from tests.simulation.mutants import MUTANTS, ROOT
from tests.simulation.schedules import Schedule, draw_schedule
from tests.simulation.story import shrink, tell
from tests.simulation.world import World, graveyard

FIRST = int(os.environ.get("SIM_FIRST", "100000"))
"""The first seed of every run of the tests: always the same, so that a test fails only when the
code changed. Others are tried by setting the variable, and by ``make sim``."""
COUNT = 300


@pytest.fixture(autouse=True)
def bury() -> Iterator[Callable[[], None]]:
    logging.disable(logging.CRITICAL)
    with graveyard() as bury:
        yield bury
    logging.disable(logging.NOTSET)


def expect_no_failure(schedule: Schedule, again: str = "") -> World:
    world = World(schedule)
    if world.run():
        lines: list[str] = []
        tell(*shrink(schedule), lines.append, again)
        pytest.fail("\n".join(lines), pytrace=False)
    return world


@pytest.mark.parametrize("path", kept_paths(), ids=lambda path: path.stem)
def test_schedule_that_once_failed_keeps_every_promise(path):
    expect_no_failure(read_kept(path), f"make sim ARGS='--kept {path.stem}'")


def test_seeds_keep_every_promise(bury):
    accepted = sent = 0
    for seed in range(FIRST, FIRST + COUNT):
        world = expect_no_failure(draw_schedule(seed))
        accepted += len(world.told.accepted)
        sent += world.network.sent
        if seed % 50 == 0:
            bury()
    assert accepted > COUNT, "the schedules place calls"
    assert sent > 10 * COUNT, "the servers talk to each other"


@pytest.mark.parametrize("seed", range(0, 200, 10))
def test_schedule_is_the_same_after_it_was_kept(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    schedule = draw_schedule(seed)
    again = read_kept(kept.keep("some", "nothing", schedule))
    assert sorted(map(repr, again.steps)) == sorted(map(repr, schedule.steps))
    assert replace(again, steps=()) == replace(schedule, steps=())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_deliberate_fault_fits_the_code(mutant):
    """The hunt for them takes long; this only sees that each can still be put into its file."""
    for edit in mutant.edits:
        assert (ROOT / edit.file).read_text().count(edit.old) == 1
        assert edit.old != edit.new


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
