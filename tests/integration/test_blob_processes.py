"""Processes that bring blobs: what they bring, what becomes of them, and what of their errors."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.configuration import Configuration, load_configuration
from ledger.errors import TransientError
from ledger.storage.blob_store import NewBlob
from ledger.storage.event_log import Append
from ledger.storage.log_copy import LogCopy
from ledger.storage.open_blob_store import open_blob_store
from tests.support.pair import write_pair
from tests.support.processes import wait_for
from vmledger.blob_processes import BlobProcesses, CopyPlace, ServerPlace

SOUNDS = {sha256(sound).hexdigest(): sound for sound in (b"hello", b"is there anybody", b"bye")}
ABSENT = sha256(b"nobody has this").hexdigest()


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


def carry(processes: BlobProcesses, place, digests):
    return asyncio.run(processes.carrier(place).carry(digests))


def test_blobs_are_brought_into_packs_or_each_alone(config, place):
    alone, *together = SOUNDS
    with BlobProcesses(config) as processes:
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


def test_error_comes_back_as_what_it_was(config):
    with (
        BlobProcesses(config) as processes,
        pytest.raises(TransientError, match="server bravo does not answer") as raised,
    ):
        carry(processes, ServerPlace("bravo"), {ABSENT: False})
    assert raised.value.retry_after_s > 0


def test_process_that_is_killed_is_told_from_a_fault_of_the_source(config, place):
    with BlobProcesses(config) as processes:
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(TransientError, match="has ended; look for what the system killed it"):
            carry(processes, place, dict.fromkeys(SOUNDS, False))


PARENT = """
import multiprocessing, sys, time
from pathlib import Path
from ledger.configuration import load_configuration
from vmledger.blob_processes import BlobProcesses

with BlobProcesses(load_configuration(Path(sys.argv[1]))):
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
    assert len(children) == 2
    assert wait_for(lambda: not any(map(is_running, children)), 20.0)


def is_running(pid: int) -> bool:
    """Is there such a process that has not ended?"""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
