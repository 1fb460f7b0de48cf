"""Processes of a recovery: what they do, what becomes of them, and what of their errors."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from ledger.configuration import Configuration, load_configuration
from ledger.errors import PeerError, TransientError
from ledger.events import CallReceived, CallStatus
from ledger.migration.log_writing import FilledPages
from ledger.migration.page_reader import ReadEvent
from ledger.migration.wire import KeptKey, OriginRow
from ledger.storage.blob_store import NewBlob
from ledger.storage.event_log import Append, BlobLocation
from ledger.storage.log_copy import LogCopy
from ledger.storage.mapper import to_stored_event
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.open_recorder import open_recorder
from tests.support.pair import write_pair
from tests.support.processes import wait_for
from vmledger.recovery_processes import CopyPlace, RecoveryProcesses, ServerPlace

SOUNDS = {sha256(sound).hexdigest(): sound for sound in (b"hello", b"is there anybody", b"bye")}
ABSENT = sha256(b"nobody has this").hexdigest()
INCARNATION = UUID(int=77)


@pytest.fixture
def config(tmp_path) -> Configuration:
    return load_configuration(write_pair(tmp_path)["alpha"])


@pytest.fixture
def place(tmp_path) -> CopyPlace:
    """A copy of a log, with blobs in a pack."""
    directory = tmp_path / "copy"
    copy = LogCopy(directory, is_new=True)
    packed = copy.blobs.put_pack([NewBlob(digest, data) for digest, data in SOUNDS.items()])
    copy.recorder.commit([Append([], blob_locations=packed)])
    copy.close()
    return CopyPlace(str(directory), directory)


def carry(processes: RecoveryProcesses, place, digests):
    return asyncio.run(processes.carrier(place).carry(digests))


def test_blobs_are_brought_into_packs_or_each_alone(config, place):
    alone, *together = SOUNDS
    with RecoveryProcesses(config) as processes:
        carried = carry(
            processes, place, {alone: True, ABSENT: False} | dict.fromkeys(together, False)
        )
    store = open_blob_store(config.stores.blobs)
    assert store.get(alone) == SOUNDS[alone]
    found = {location.digest: location for location in carried.locations}
    assert {digest: store.get(digest, found[digest]) for digest in together} == {
        digest: SOUNDS[digest] for digest in together
    }
    assert (carried.blobs, carried.absent) == (3, [ABSENT])
    assert carried.bytes == sum(map(len, SOUNDS.values()))


def begun(call_id: UUID) -> tuple[ReadEvent, KeptKey]:
    """The beginning of a call, as it was read, with its key."""
    event = to_stored_event(
        CallReceived(
            originator_id=call_id, originator_version=1, recorded_at=datetime.now(UTC),
            recorded_by="alpha", called_extension="1001", context="default",
            status=CallStatus.BUSY, personal="c2VhbGVk",
        )
    )  # fmt: skip
    read = ReadEvent(call_id, 1, event.topic, event.state, origin=None, origin_position=None)
    return read, KeptKey(call_id, call_id.bytes)


def pages(*events: ReadEvent, through: int, **others) -> FilledPages:
    nothing = {"locations": [], "keys": [], "checkpoint": None, "origins": (), "cosigned": ()}
    return FilledPages(
        source="bravo", incarnation=INCARNATION, events=list(events), through=through,
        **(nothing | others),
    )  # fmt: skip


def write(processes: RecoveryProcesses, filled: FilledPages) -> None:
    asyncio.run(processes.writer().write(filled))


def test_events_are_committed_with_all_that_comes_with_them(config):
    ids = [UUID(int=number) for number in (1, 2, 3)]
    (first, key), (second, destroyed), (third, _) = map(begun, ids)
    third = msgspec.structs.replace(third, origin="bravo", origin_position=7)
    place = BlobLocation(ABSENT, "ab" * 32, 0, 20)
    tracked = OriginRow(origin="bravo", incarnation=INCARNATION, position=7, root="00" * 32)
    with RecoveryProcesses(config) as processes:
        write(
            processes,
            pages(first, through=1, keys=[key], locations=[place], origins=(tracked,)),
        )
        keys = [KeptKey(destroyed.call_id, None)]
        write(processes, pages(second, third, through=3, keys=keys))
    with closing(open_recorder(config.stores.events)) as recorder:
        entries = recorder.read(1, 10)
        assert [(e.originator_id, e.plain) for e in entries] == [
            (e.stream, e.plain) for e in (first, second, third)
        ]
        assert [(e.origin, e.origin_position) for e in entries] == [(None, None)] * 2 + [
            ("bravo", 7)
        ]
        assert recorder.head().incarnation == INCARNATION
        assert recorder.locate_blobs([ABSENT]) == {ABSENT: place}
        assert {i: k.wrapped for i, k in recorder.read_keys(ids).items()} == {
            ids[0]: key.wrapped,
            ids[1]: None,
        }
        assert [one.position for one in recorder.tracked("bravo")] == [7]


def test_events_that_no_log_can_have_are_the_fault_of_their_source(config):
    first, _ = begun(UUID(int=1))
    with RecoveryProcesses(config) as processes:
        write(processes, pages(first, through=1))
        with pytest.raises(PeerError, match="alpha at bravo is not what it says: up to position 2"):
            write(processes, pages(first, through=2))
    with closing(open_recorder(config.stores.events)) as recorder:
        assert recorder.head().position == 1


def test_error_comes_back_as_what_it_was(config):
    with (
        RecoveryProcesses(config) as processes,
        pytest.raises(TransientError, match="server bravo does not answer") as raised,
    ):
        carry(processes, ServerPlace("bravo"), {ABSENT: False})
    assert raised.value.retry_after_s > 0


def test_process_that_is_killed_is_told_from_a_fault_of_the_source(config, place):
    with RecoveryProcesses(config) as processes:
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(TransientError, match="has ended; look for what the system killed it"):
            carry(processes, place, dict.fromkeys(SOUNDS, False))
        with pytest.raises(TransientError, match="has ended; look for what the system killed it"):
            write(processes, pages(begun(UUID(int=1))[0], through=1))


PARENT = """
import multiprocessing, sys, time
from pathlib import Path
from ledger.configuration import load_configuration
from vmledger.recovery_processes import RecoveryProcesses

with RecoveryProcesses(load_configuration(Path(sys.argv[1]))):
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


def test_processes_end_when_the_one_they_work_for_is_killed(tmp_path):
    file = write_pair(tmp_path)["alpha"]
    command = [sys.executable, "-c", PARENT, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(children) == 3
    assert wait_for(lambda: not any(map(is_running, children)), 20.0)


def is_running(pid: int) -> bool:
    """Is there such a process that has not ended?"""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
