"""The file stores on a disk that forgets: every crash point, with the power cut after it.

The same runs over a disk that skips one kind of sync must fail, or they would prove nothing.
"""

import contextlib
import hashlib
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from ledger.errors import CorruptionError
from ledger.sealing import MessageKey
from ledger.storage.blob_store import NewBlob
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.spool import Spool
from ledger.storage.stored_form import RecordingMetadata, intact_prefix
from tests.simulation.disk import Crashed, Disk, VirtualFiles
from vmledger.recovery_folder import RecoveryFolder

ROOT = Path("/data")
CALL = UUID(int=1)
METADATA = RecordingMetadata(
    call_id=CALL, server="alpha", started_at=datetime(2026, 1, 1, tzinfo=UTC)
)
KEY = MessageKey(CALL, b"k" * 32)
SPOKEN = [bytes([65 + i]) * 3_000 for i in range(4)]
BLOBS = [NewBlob(hashlib.sha256(data).hexdigest(), data) for data in SPOKEN]
SEEDS = range(4)


class Machine:
    """One machine: a disk, and what is opened on it."""

    def __init__(self, seed: int, files: type[VirtualFiles] = VirtualFiles) -> None:
        self.disk = Disk(random.Random(seed))
        self.kind = files
        self.names = itertools.count()
        self.random = random.Random(f"salts/{seed}")
        self.told: list[Callable[[Machine], bool]] = []
        """What somebody was told is durable: each looks whether it still is."""

    @property
    def files(self) -> VirtualFiles:
        return self.kind(self.disk, now_s=lambda: 0.0)

    @property
    def blobs(self) -> FilesystemBlobStore:
        return FilesystemBlobStore(
            ROOT / "blobs",
            files=self.files,
            now_s=lambda: 0.0,
            new_name=lambda: f"new-{next(self.names)}",
        )

    @property
    def spool(self) -> Spool:
        return Spool(
            ROOT / "spool",
            files=self.files,
            monotonic_s=lambda: 0.0,
            now_s=lambda: 0.0,
            random_bytes=self.random.randbytes,
            find_key=lambda _: KEY,
        )


def put(machine: Machine) -> None:
    blobs = machine.blobs
    for blob in BLOBS:
        blobs.put(blob.digest, blob.data)
        machine.told.append(lambda m, blob=blob: m.blobs.get(blob.digest) == blob.data)


def put_pack(machine: Machine) -> None:
    for location in machine.blobs.put_pack(BLOBS):
        data = next(b.data for b in BLOBS if b.digest == location.digest)
        machine.told.append(lambda m, at=location, data=data: m.blobs.get(at.digest, at) == data)


def record_sealed(machine: Machine) -> None:
    """Record a call that is sealed, as any other."""
    record(machine, KEY)


def record(machine: Machine, key: MessageKey | None = None) -> None:
    """Record a call and adopt it; told after each second, then of the blob."""
    spool, blobs = machine.spool, machine.blobs
    for left in spool.interrupted():
        spool.discard(left.path)
        spool.release(left.path)
    machine.told.clear()
    recording = spool.open(CALL, METADATA, key)
    for count, piece in enumerate(SPOKEN, 1):
        recording.append(piece, force=True)
        machine.told[:] = [lambda m, count=count: heard(m).startswith(b"".join(SPOKEN[:count]))]
    finished = recording.finish()
    blobs.put_file(finished.blob_digest, finished.path)
    machine.told[:] = [lambda m: bool(m.blobs.get(finished.blob_digest))]
    recording.discard()


def heard(machine: Machine) -> bytes:
    spool = machine.spool
    (left,) = spool.interrupted()
    return left.received


def set_aside(machine: Machine) -> None:
    spool = machine.spool
    recording = spool.open(CALL, METADATA)
    recording.append(SPOKEN[0])
    place = recording.set_aside("no use")
    machine.told.append(lambda m: bool(m.files.read(place)))


def recover(machine: Machine) -> None:
    """Mark that a recovery was begun, which no server may start without; then that it is over."""
    folder = RecoveryFolder(ROOT, machine.files)
    try:
        new = folder.begin(UUID(int=next(machine.names)))
    except CorruptionError:
        machine.told[:] = [lambda _: False]
        return
    machine.told[:] = [
        lambda m: RecoveryFolder(ROOT, m.files).is_open,
        lambda m: RecoveryFolder(ROOT, m.files).begin(CALL) == new,
    ]
    machine.files.create(ROOT / "recovery" / f"left-{next(machine.names)}").close()
    machine.told.clear()
    folder.finish()
    machine.told[:] = [lambda m: not RecoveryFolder(ROOT, m.files).is_open]


SCENARIOS = [put, put_pack, record, record_sealed, recover, set_aside]


@dataclass
class Outcome:
    crash_points: int = 0
    lost: int = 0


def try_every_crash(
    scenario: Callable[[Machine], None], kind: type[VirtualFiles] = VirtualFiles
) -> Outcome:
    """Crash at every operation, before and after it, cut the power; count what was lost."""
    outcome = Outcome()
    for seed, is_after in itertools.product(SEEDS, (False, True)):
        for crash_in in itertools.count(1):
            machine = Machine(seed, kind)
            machine.disk.strikes.crash_in = crash_in
            machine.disk.strikes.crash_is_after = is_after
            try:
                scenario(machine)
            except Crashed:
                outcome.crash_points += 1
            else:
                machine.disk.strikes.crash_in = None
            is_done = machine.disk.strikes.crash_in is None and crash_in > machine.disk.operations
            machine.disk.cut_power()
            outcome.lost += sum(not is_kept(machine, claim) for claim in machine.told)
            if is_done:
                break
            scenario(machine)  # whoever was not told tries again
            machine.disk.cut_power()
            outcome.lost += sum(not is_kept(machine, claim) for claim in machine.told)
    return outcome


def is_kept(machine: Machine, claim: Callable[[Machine], bool]) -> bool:
    try:
        return claim(machine)
    except Exception:
        return False


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_that_somebody_was_told_of_is_lost(scenario):
    outcome = try_every_crash(scenario)
    assert outcome.lost == 0
    assert outcome.crash_points > 60


def test_blob_that_a_killed_process_left_is_durable_once_it_is_said_to_be_there():
    blob, left_behind = BLOBS[0], 0
    for crash_in, is_after in itertools.product(range(1, 40), (False, True)):
        machine = Machine(seed=1)
        machine.disk.strikes.crash_in, machine.disk.strikes.crash_is_after = crash_in, is_after
        with contextlib.suppress(Crashed):
            machine.blobs.put(blob.digest, blob.data)
            machine.disk.strikes.crash_in = None
        if machine.blobs.has(blob.digest):
            left_behind += machine.disk.operations >= crash_in
            machine.disk.cut_power()
            assert machine.blobs.get(blob.digest) == blob.data
    assert left_behind > 0


class NoFileSync(VirtualFiles):
    """Forgets to sync the bytes of files."""

    def create(self, path):
        file = super().create(path)
        file.sync = lambda: None
        return file

    def sync_file(self, path):
        pass


class NoDirectorySync(VirtualFiles):
    """Forgets to sync the names in folders that are there."""

    def sync_directory(self, path):
        pass


class NoFolderSync(VirtualFiles):
    """Forgets to sync the names of new folders."""

    def _sync_folder_name(self, folder):
        pass


@pytest.mark.parametrize("fault", [NoFileSync, NoDirectorySync, NoFolderSync])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_store_that_forgets_a_sync_is_found_out(scenario, fault):
    assert try_every_crash(scenario, fault).lost > 0


@pytest.mark.parametrize("syncs", range(1, 9))
def test_upload_that_is_begun_anew_loses_nothing_when_a_sync_failed(syncs):
    """Setting the broken upload aside failed half-way; then the whole recording was synced."""
    for seed in SEEDS:
        machine = Machine(seed)
        recording = machine.spool.open(CALL, METADATA)
        recording.append(SPOKEN[0], force=True)
        spool = machine.spool
        machine.disk.strikes.fail_sync_in = syncs
        with contextlib.suppress(CorruptionError):
            spool.open(CALL, METADATA).close()
        with contextlib.suppress(CorruptionError):
            again = spool.open(CALL, METADATA)
            again.append(SPOKEN[1], force=True)
        machine.disk.cut_power()
        places = (ROOT / "spool", ROOT / "spool/set-aside")
        paths = [found.path for place in places for found in machine.files.list(place)]
        sounds = [machine.files.read(path) for path in paths if path.suffix == ".zst"]
        kept = [intact_prefix(sound).received for sound in sounds]
        assert SPOKEN[0] in kept
