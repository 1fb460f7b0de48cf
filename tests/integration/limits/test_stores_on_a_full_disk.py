"""The stores themselves on a real file system that fills up: transient, whole, and going on."""

import threading

import pytest

from ledger.errors import NoRoomError, TransientError
from ledger.storage.event_log import Append
from ledger.storage.log_reserve import SLICE_BYTES, LogReserve
from ledger.storage.open_recorder import open_recorder, open_reserve
from ledger.storage.peer_cursors import PeerCursor
from ledger.storage.sql_peer_cursors import SqlCursorStore
from projections.store import ProjectionStore
from tests.support.histories import History
from tests.support.mounted_disk import mounted_disk
from tests.support.running import Bench, serving
from tests.support.stored_events import stored_event

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted_disk(folder, 12 * MIB) as disk:
        yield disk


def append_until_full(recorder, first=1):
    """Append events that do not compress; gives the number of the first that found no room."""
    number = first
    while True:
        filler = "".join(f"{(number * 7919 + i) ** 5:x}" for i in range(2_000))
        try:
            recorder.commit([Append([stored_event(number, 1, filler)])])
        except NoRoomError:
            return number
        number += 1


def test_a_log_that_fills_its_disk_is_whole_and_goes_on_when_there_is_room(disk):
    recorder = open_recorder(f"sqlite:///{disk.root}/log.sqlite")
    disk.fill(leave_bytes=3 * MIB)
    failed = append_until_full(recorder)
    assert recorder.head().position == failed - 1
    disk.free()
    recorder.commit([Append([stored_event(failed, 1)])])
    recorder.close()
    again = open_recorder(f"sqlite:///{disk.root}/log.sqlite")
    entries = again.read(1, 10_000)
    assert [entry.originator_id.int for entry in entries] == list(range(1, failed + 1))
    assert again.root_at(failed) == again.head().root
    again.close()


def test_the_reserve_lets_a_log_on_a_full_disk_go_on_slice_by_slice(disk):
    url = f"sqlite:///{disk.root}/log.sqlite"
    reserve = open_reserve(url, 2 * SLICE_BYTES)
    recorder = open_recorder(url, reserve)
    assert reserve.fill()
    disk.fill()
    recorder.commit([Append([stored_event(1, 1)])])
    assert reserve.held_bytes() == SLICE_BYTES
    last = append_until_full(recorder, 2)
    assert reserve.held_bytes() == 0
    assert recorder.head().position == last - 1
    recorder.close()


def test_a_reserve_takes_real_room_and_is_made_whole_again(disk):
    reserve = LogReserve(disk.root / "reserve", 4 * MIB)
    before = disk.free_bytes
    assert reserve.fill()
    assert before - disk.free_bytes == 4 * MIB
    assert reserve.give()
    disk.fill()
    assert not reserve.fill()
    disk.free()
    assert reserve.fill()
    assert reserve.held_bytes() == 4 * MIB


def test_a_cursor_that_finds_no_room_is_a_transient_error(disk):
    url = f"sqlite:///{disk.root}/log.sqlite"
    recorder = open_recorder(url)
    cursors = SqlCursorStore(url)
    cursor = PeerCursor("bravo", recorder.head().incarnation, 1, 0, None)
    disk.fill()
    with pytest.raises(TransientError):
        cursors.save(cursor)
    disk.free()
    cursors.save(cursor)
    assert cursors.load("bravo") == cursor
    cursors.close()
    recorder.close()


def test_the_thread_of_the_read_models_outlives_a_full_disk(disk):
    history = History()
    store = ProjectionStore(f"sqlite:///{disk.root}/views.sqlite", "alpha")
    runner = Bench(store).runner(history.log, poll_interval_s=0.01)
    runner.start()
    history.call()
    assert runner.wait_for(history.position, 30)
    disk.fill()
    for _ in range(300):
        history.call()
    assert not runner.wait_for(history.position, 0.5)
    assert any(thread.name == "projections" for thread in threading.enumerate())
    disk.free()
    assert runner.wait_for(history.position, 30)
    assert serving(runner, "mailboxes").stopped_error is None
    runner.stop()
    store.close()


def test_an_append_that_found_no_room_is_not_in_the_log_and_may_come_again(disk):
    recorder = open_recorder(f"sqlite:///{disk.root}/log.sqlite")
    disk.fill()
    append = Append([stored_event(1, 1, "x")])
    with pytest.raises(NoRoomError, match="free some space"):
        recorder.commit([append])
    assert recorder.head().position == 0
    disk.free()
    recorder.commit([append])
    assert recorder.head().position == 1
    recorder.close()
