"""Who may still write as the disk fills."""

from pathlib import Path

import pytest

from ledger.configuration import Limits
from ledger.errors import NoRoomError
from ledger.storage.disk_room import DiskRoom

LIMITS = Limits(min_free_disk_bytes=100, min_free_disk_for_batches_bytes=400)


def room(*free_bytes, limits=LIMITS):
    disks = {Path(str(number)): free for number, free in enumerate(free_bytes)}
    return DiskRoom(disks, limits, free_bytes_at=disks.__getitem__)


def test_batches_stop_before_recordings_do():
    disk = room(399)
    assert not disk.is_open_for_bulk()
    assert disk.is_open_for_recordings()
    with pytest.raises(NoRoomError, match="another server"), disk.for_batch(0):
        pass
    with disk.for_recording():
        pass


def test_the_fullest_disk_counts():
    assert not room(1000, 99).is_open_for_recordings()
    assert room(1000, 100).is_open_for_recordings()


def test_a_recording_that_says_its_length_has_to_fit_in():
    disk = room(200)
    with disk.for_recording(100):
        pass
    with pytest.raises(NoRoomError, match="100 bytes are left"), disk.for_recording(101):
        pass


def test_what_is_arriving_counts_as_written():
    disk = room(250)
    with disk.for_recording(100):
        with pytest.raises(NoRoomError), disk.for_recording(60):
            pass
        with disk.for_recording(50):
            pass
    with disk.for_recording(150):
        pass


def test_batches_never_go_on_longer_than_recordings():
    limits = Limits(min_free_disk_bytes=500, min_free_disk_for_batches_bytes=0)
    assert not room(499, limits=limits).is_open_for_bulk()
