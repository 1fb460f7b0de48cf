"""Wherever a server dies, what was asked of it is done exactly once in the end."""

import pytest

from tests.integration.crash_table.table import crash_everywhere, steps_of
from tests.integration.crash_table.use_cases import USE_CASES
from tests.integration.crash_table.world import make_memory_log
from tests.simulation import disk

every_use_case = pytest.mark.parametrize("name", USE_CASES)


def faults_of(rows):
    return [f"{row.crash} {row.step}: {fault}" for row in rows for fault in row.faults]


@every_use_case
def test_crash_at_any_step_neither_loses_nor_doubles_anything(name, make_log):
    rows = list(crash_everywhere(USE_CASES[name], make_log))
    assert faults_of(rows) == []
    assert len(rows) >= 2 * USE_CASES[name].least_steps


@every_use_case
def test_kill_that_leaves_the_machine_its_power_does_no_harm_either(name, make_sqlite_log):
    rows = list(crash_everywhere(USE_CASES[name], make_sqlite_log, is_power_cut=False))
    assert faults_of(rows) == []
    assert len(rows) >= 2 * USE_CASES[name].least_steps


@every_use_case
def test_steps_on_the_page_are_those_over_a_real_database(name, make_log):
    assert steps_of(USE_CASES[name], make_log) == steps_of(USE_CASES[name], make_memory_log)


@pytest.mark.parametrize(
    ("owner", "sync"),
    [(disk, "_sync_inode"), (disk.VirtualFiles, "sync_directory")],
    ids=["bytes", "names"],
)
@pytest.mark.parametrize(
    "name", ["record-at-home", "receive-a-batch", "set-aside", "record-a-greeting", "change-a-pin"]
)
def test_disk_that_ignores_a_sync_is_found_out(name, owner, sync, monkeypatch):
    monkeypatch.setattr(owner, sync, lambda *_: None)
    assert faults_of(crash_everywhere(USE_CASES[name], make_memory_log)) != []
