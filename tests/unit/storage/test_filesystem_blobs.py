"""What only a file system can do to blobs."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from ledger.errors import CorruptionError, TransientError
from ledger.storage.blob_store import NewBlob
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from tests.support.small_disk import small_disk

ONE = b"one" * 5_000
DIGEST = hashlib.sha256(ONE).hexdigest()


@pytest.fixture
def store(tmp_path):
    return FilesystemBlobStore(tmp_path / "blobs")


def files(store):
    return sorted(p for p in store._root.rglob("*") if p.is_file())


def test_loose_blob_is_named_by_its_own_hash(store, tmp_path):
    store.put(DIGEST, ONE)
    path = tmp_path / "blobs" / DIGEST[:2] / DIGEST[2:]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name + path.name


def test_pack_is_its_blobs_end_to_end(store, tmp_path):
    (location,) = store.put_pack([NewBlob(DIGEST, ONE)])
    path = tmp_path / "blobs" / "packs" / f"{location.pack}.pack"
    assert path.read_bytes() == ONE


def test_pack_that_has_rotted_is_written_again(store, tmp_path):
    (location,) = store.put_pack([NewBlob(DIGEST, ONE)])
    path = tmp_path / "blobs" / "packs" / f"{location.pack}.pack"
    path.write_bytes(ONE[:-1] + b"?")
    store.put_pack([NewBlob(DIGEST, ONE)])
    assert path.read_bytes() == ONE


def test_adopted_file_shares_its_bytes_with_the_original(store, tmp_path):
    spooled = tmp_path / "spooled"
    spooled.write_bytes(ONE)
    store.put_file(DIGEST, spooled)
    (kept,) = files(store)
    assert kept.samefile(spooled)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM])
def test_file_of_another_file_system_is_copied(store, tmp_path, monkeypatch, number):
    def refuse(self, target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    spooled = tmp_path / "spooled"
    spooled.write_bytes(ONE)
    store.put_file(DIGEST, spooled)
    assert store.get(DIGEST) == ONE
    assert len(files(store)) == 1


def test_adopting_over_a_rotten_blob_replaces_it(store, tmp_path):
    store.put(DIGEST, ONE)
    files(store)[0].write_bytes(b"rotten")
    spooled = tmp_path / "spooled"
    spooled.write_bytes(ONE)
    store.put_file(DIGEST, spooled)
    assert store.get(DIGEST) == ONE
    assert len(files(store)) == 1


def test_nobody_else_may_read_messages(store):
    store.put(DIGEST, ONE)
    store.put_pack([NewBlob(DIGEST, ONE)])
    assert [p.stat().st_mode & 0o077 for p in files(store)] == [0, 0]
    assert store._root.stat().st_mode & 0o077 == 0


def test_half_written_file_is_never_seen_and_dropped_a_day_later(tmp_path):
    store = FilesystemBlobStore(tmp_path)
    (tmp_path / "tmp" / "half").write_bytes(b"half")
    assert list(store.list_loose()) == list(store.list_packs()) == []
    written_s = (tmp_path / "tmp" / "half").stat().st_mtime
    FilesystemBlobStore(tmp_path, now_s=lambda: written_s + 3600)
    assert (tmp_path / "tmp" / "half").exists()
    FilesystemBlobStore(tmp_path, now_s=lambda: written_s + 90_000)
    assert not (tmp_path / "tmp" / "half").exists()


def test_reader_is_not_disturbed_by_a_drop(store):
    store.put(DIGEST, ONE)
    with files(store)[0].open("rb") as reader:
        first = reader.read(3)
        store.delete(DIGEST)
        assert first + reader.read() == ONE


def test_disk_that_fills_up_changes_nothing(store):
    with small_disk():
        with pytest.raises(TransientError):
            store.put(DIGEST, ONE)
        with pytest.raises(TransientError):
            store.put_pack([NewBlob(DIGEST, ONE)])
        assert files(store) == []


class Steps:
    """Records what is done to the disk, in order, and can fail at one step."""

    def __init__(self, monkeypatch, root):
        self.taken, self.fail_at = [], None
        for owner, name in [(os, "fdatasync"), (os, "fsync"), (Path, "replace")]:
            self._wrap(monkeypatch, owner, name)

    def _wrap(self, monkeypatch, owner, name):
        real = getattr(owner, name)

        def step(*args):
            if len(self.taken) == self.fail_at:
                raise OSError(errno.EIO, "Input/output error")
            self.taken.append(name)
            return real(*args)

        monkeypatch.setattr(owner, name, step)


@pytest.fixture
def steps(store, monkeypatch):
    return Steps(monkeypatch, store._root)


def test_file_is_synced_before_and_its_name_after_the_rename(store, steps):
    store.put(DIGEST, ONE)
    store.delete(DIGEST)
    steps.taken.clear()
    store.put(DIGEST, ONE)
    assert steps.taken == ["fdatasync", "replace", "fsync"]


def test_new_directory_is_made_durable_before_it_is_used(store, steps):
    store.put(DIGEST, ONE)
    above_root = root = "fsync"
    assert steps.taken == ["fdatasync", above_root, root, "replace", "fsync"]


def test_pack_of_many_costs_one_sync_of_bytes_and_one_of_names(store, steps):
    contents = [b"%d" % i * 1000 for i in range(50)]
    store.put_pack([NewBlob(hashlib.sha256(c).hexdigest(), c) for c in contents])
    assert steps.taken == ["fdatasync", "replace", "fsync"]


@pytest.mark.parametrize("step", range(5))
def test_put_that_failed_at_any_step_can_be_repeated(store, steps, step):
    steps.fail_at = step
    with pytest.raises(CorruptionError):
        store.put(DIGEST, ONE)
    steps.fail_at = None
    store.put(DIGEST, ONE)
    assert store.get(DIGEST) == ONE


def test_blob_that_was_there_already_is_confirmed_by_a_sync_of_its_name(store, steps):
    store.put(DIGEST, ONE)
    steps.taken.clear()
    store.put(DIGEST, ONE)
    assert steps.taken == ["fsync"]
