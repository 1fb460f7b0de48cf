"""What only this machine's file system can show: modes, real errors, undone writes."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from ledger.errors import CorruptionError, TransientError
from ledger.storage.files import SystemFiles
from tests.support.small_disk import small_disk


@pytest.fixture
def files():
    return SystemFiles()


def failing(number):
    def fail(*_args):
        raise OSError(number, os.strerror(number))

    return fail


def test_files_and_folders_are_for_their_own_user_alone(files, tmp_path):
    files.make_directory(tmp_path / "a" / "b")
    files.create(tmp_path / "a" / "b" / "c").close()
    modes = [p.stat().st_mode & 0o777 for p in sorted((tmp_path / "a").rglob("*"))]
    assert modes == [0o700, 0o600]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_every_folder_that_is_made_has_its_name_synced(files, tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.make_directory(tmp_path / "a" / "b")
    assert synced == [tmp_path.parent, tmp_path, tmp_path / "a"]


def test_write_that_finds_no_room_is_undone_and_the_next_goes_on(files, tmp_path):
    with small_disk():
        file = files.create(tmp_path / "a")
        file.write(b"before")
        with pytest.raises(TransientError, match=r"the disk is full.*free some space"):
            file.write(b"x" * 5_000)
        assert files.read(tmp_path / "a") == b"before"
        file.write(b", after")
        assert files.read(tmp_path / "a") == b"before, after"


def test_write_that_cannot_be_undone_is_corruption(files, tmp_path, monkeypatch):
    with small_disk():
        file = files.create(tmp_path / "a")
        monkeypatch.setattr(os, "ftruncate", failing(errno.EIO))
        with pytest.raises(CorruptionError, match="could not be undone"):
            file.write(b"x" * 5_000)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_failed_sync_is_corruption_whatever_the_reason(files, tmp_path, monkeypatch, number):
    file = files.create(tmp_path / "a")
    monkeypatch.setattr(os, "fdatasync", failing(number))
    with pytest.raises(CorruptionError, match="could not confirm a write"):
        file.sync()


def test_failing_disk_is_named_with_the_file(files, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", failing(errno.EIO))
    with pytest.raises(CorruptionError) as caught:
        files.replace(tmp_path / "a", tmp_path / "b")
    assert caught.value.place == str(tmp_path / "b")


def test_what_the_system_refuses_for_another_reason_may_work_later(files, tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(TransientError, match=r"reading .*a failed: Is a directory"):
        files.read(tmp_path / "a")


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM])
def test_file_system_that_cannot_link_says_so(files, tmp_path, monkeypatch, number):
    monkeypatch.setattr(Path, "hardlink_to", failing(number))
    assert files.link(tmp_path / "a", tmp_path / "b") is False


def test_part_of_a_large_file_is_read_whole(files, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert files.read(tmp_path / "a", 5, 2_500_000) == data[5:2_500_005]


ODD_BYTES = 3 * 1024 * 1024 + 1234


class Writes:
    """What goes to the disk directly, and what does not; refuses the direct ones from one on."""

    def __init__(self, monkeypatch):
        self.direct, self.cached, self.refused_from = [], [], None
        real = os.write

        def write(descriptor, data):
            is_direct = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
            if is_direct and len(self.direct) == self.refused_from:
                raise OSError(errno.EINVAL, "Invalid argument")
            (self.direct if is_direct else self.cached).append(len(data))
            return real(descriptor, data)

        monkeypatch.setattr(os, "write", write)


@pytest.fixture
def writes(monkeypatch):
    return Writes(monkeypatch)


def takes_direct_writes(folder):
    """Some file systems in memory do not."""
    try:
        os.close(os.open(folder / "probe", os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        return False
    return True


def test_large_write_goes_around_the_cache_but_for_what_fills_no_block(files, tmp_path, writes):
    data = os.urandom(ODD_BYTES)
    file = files.create(tmp_path / "a")
    file.write(data)
    file.write(b"and more")
    assert (tmp_path / "a").read_bytes() == data + b"and more"
    direct_bytes = ODD_BYTES // 4096 * 4096 if takes_direct_writes(tmp_path) else 0
    assert sum(writes.direct) == direct_bytes
    assert writes.cached == [ODD_BYTES - direct_bytes, len(b"and more")]


def test_large_write_behind_an_odd_beginning_goes_through_the_cache(files, tmp_path, writes):
    file = files.create(tmp_path / "a")
    file.write(b"odd")
    file.write(b"x" * ODD_BYTES)
    assert (tmp_path / "a").read_bytes() == b"odd" + b"x" * ODD_BYTES
    assert writes.direct == []


@pytest.mark.parametrize("refused_from", [0, 1])
def test_disk_that_takes_nothing_directly_gets_all_of_it(files, tmp_path, writes, refused_from):
    data = os.urandom(ODD_BYTES)
    writes.refused_from = refused_from
    file = files.create(tmp_path / "a")
    file.write(data)
    assert writes.cached[-1] == ODD_BYTES - sum(writes.direct)
    assert (tmp_path / "a").read_bytes() == data


def test_large_write_that_finds_no_room_is_undone(files, tmp_path):
    with small_disk(2_000_000):
        file = files.create(tmp_path / "a")
        with pytest.raises(TransientError, match="the disk is full"):
            file.write(b"x" * ODD_BYTES)
        assert files.read(tmp_path / "a") == b""
        file.write(b"small")
    assert files.read(tmp_path / "a") == b"small"
