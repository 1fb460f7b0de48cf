"""The simulated disk loses exactly what the file-system port does not promise."""

import random
from pathlib import Path

import pytest

from ledger.errors import CorruptionError, TransientError
from tests.simulation.disk import Crashed, Disk, VirtualFiles

FOLDER = Path("/data")
A, B = FOLDER / "a", FOLDER / "b"
SEEDS = range(20)


class Machine:
    def __init__(self, seed=0):
        self.disk = Disk(random.Random(seed))
        self.files = VirtualFiles(self.disk, now_s=lambda: 0.0)
        self.files.make_directory(FOLDER)

    def write(self, path, data, *, sync=True, name=True):
        file = self.files.create(path)
        file.write(data)
        if sync:
            file.sync()
        if name:
            self.files.sync_directory(path.parent)
        return file


@pytest.fixture
def machine():
    return Machine()


def test_power_cut_keeps_what_was_synced_under_its_name(machine):
    machine.write(A, b"kept")
    machine.disk.cut_power()
    assert machine.files.read(A) == b"kept"


def test_power_cut_forgets_a_name_whose_folder_was_not_synced(machine):
    machine.write(A, b"lost", name=False)
    machine.disk.cut_power()
    assert not machine.files.exists(A)


def test_power_cut_brings_back_a_name_whose_removal_was_not_synced(machine):
    machine.write(A, b"back")
    machine.files.remove(A)
    machine.disk.cut_power()
    assert machine.files.read(A) == b"back"


def test_power_cut_undoes_a_rename_that_was_not_synced(machine):
    machine.write(A, b"a")
    machine.write(B, b"b")
    machine.files.replace(A, B)
    machine.disk.cut_power()
    assert (machine.files.read(A), machine.files.read(B)) == (b"a", b"b")


def test_power_cut_keeps_a_rename_that_was_synced(machine):
    machine.write(A, b"a")
    machine.files.replace(A, B)
    machine.files.sync_directory(FOLDER)
    machine.disk.cut_power()
    assert not machine.files.exists(A)
    assert machine.files.read(B) == b"a"


def test_power_cut_never_touches_what_was_synced_and_can_spoil_all_that_was_not():
    tails = set()
    for seed in SEEDS:
        machine = Machine(seed)
        file = machine.write(A, b"synced")
        file.write(b"-tail")
        machine.disk.cut_power()
        content = machine.files.read(A)
        assert content.startswith(b"synced")
        tails.add(content.removeprefix(b"synced"))
    assert b"" in tails
    assert any(tail and b"-tail".startswith(tail) for tail in tails)
    assert any(b"\0" in tail for tail in tails)


def test_what_survived_one_power_cut_survives_the_next():
    for seed in SEEDS:
        machine = Machine(seed)
        machine.write(A, b"x" * 100, sync=False)
        machine.disk.cut_power()
        once = machine.files.read(A)
        machine.disk.cut_power()
        assert machine.files.read(A) == once


def test_power_cut_forgets_a_folder_that_was_made_when_the_machine_crashed(machine):
    # The first step syncs the name of the folder above, the second makes this one.
    machine.disk.strikes.crash_in, machine.disk.strikes.crash_is_after = 2, True
    with pytest.raises(Crashed):
        machine.files.make_directory(FOLDER / "new")
    machine.write(FOLDER / "new" / "a", b"a")
    machine.disk.cut_power()
    assert not machine.files.exists(FOLDER / "new" / "a")
    with pytest.raises(FileNotFoundError):
        machine.files.create(FOLDER / "new" / "a")


def test_folder_that_a_crashed_process_made_is_durable_once_it_is_made_again(machine):
    # The first step syncs the name of the folder above, the second makes this one.
    machine.disk.strikes.crash_in, machine.disk.strikes.crash_is_after = 2, True
    with pytest.raises(Crashed):
        machine.files.make_directory(FOLDER / "new")
    machine.files.make_directory(FOLDER / "new")
    machine.write(FOLDER / "new" / "a", b"a")
    machine.disk.cut_power()
    assert machine.files.read(FOLDER / "new" / "a") == b"a"


def test_crash_before_an_operation_leaves_it_undone(machine):
    machine.disk.strikes.crash_in = 1
    with pytest.raises(Crashed):
        machine.files.create(A)
    assert not machine.files.exists(A)


def test_crash_after_an_operation_leaves_it_done(machine):
    machine.disk.strikes.crash_in, machine.disk.strikes.crash_is_after = 1, True
    with pytest.raises(Crashed):
        machine.files.create(A)
    assert machine.files.exists(A)


def test_no_error_handler_of_the_product_catches_a_crash():
    assert not issubclass(Crashed, Exception)


def test_failed_sync_is_an_error_and_makes_nothing_durable(machine):
    file = machine.write(A, b"", sync=False)
    file.write(b"x" * 50)
    machine.disk.strikes.fail_sync_in = 1
    with pytest.raises(CorruptionError):
        file.sync()
    assert machine.disk.names[A].synced_bytes == 0


@pytest.mark.parametrize(
    "sync", [lambda files: files.sync_file(A), lambda files: files.sync_directory(FOLDER)]
)
def test_every_kind_of_sync_can_fail(machine, sync):
    machine.write(A, b"")
    machine.disk.strikes.fail_sync_in = 1
    with pytest.raises(CorruptionError):
        sync(machine.files)


def test_full_disk_takes_nothing_more_and_keeps_what_it_has(machine):
    file = machine.write(A, b"kept")
    machine.disk.strikes.is_full = True
    for refused in (lambda: file.write(b"more"), lambda: machine.files.create(B)):
        with pytest.raises(TransientError):
            refused()
    assert machine.files.read(A) == b"kept"


def test_full_disk_can_be_read_synced_and_tidied(machine):
    file = machine.write(A, b"kept")
    machine.disk.strikes.is_full = True
    file.sync()
    machine.files.remove(A)
    machine.files.sync_directory(FOLDER)
    assert list(machine.files.list(FOLDER)) == []


def test_rot_flips_one_bit_of_one_file(machine):
    machine.write(A, b"\0" * 10)
    machine.disk.rot(A)
    assert sum(byte.bit_count() for byte in machine.files.read(A)) == 1
