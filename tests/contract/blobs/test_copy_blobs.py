"""Copying blobs out of any store: all that can be read arrives, with few reads."""

import hashlib

import pytest

from ledger.storage import copy_blobs as module
from ledger.storage.blob_store import NewBlob
from ledger.storage.copy_blobs import copy_blobs
from ledger.storage.event_log import BlobLocation
from ledger.storage.memory_blobs import MemoryBlobStore


def blob(number: int) -> NewBlob:
    data = f"{number}".encode() * 100
    return NewBlob(hashlib.sha256(data).hexdigest(), data)


class Watched:
    """A store that remembers what it was asked for."""

    def __init__(self, store):
        self._store = store
        self.read_alone: list[str] = []
        self.read_together: list[list[str]] = []

    def get(self, digest, location=None):
        self.read_alone.append(digest)
        return self._store.get(digest, location)

    def get_many(self, locations):
        self.read_together.append([location.digest for location in locations])
        return self._store.get_many(locations)


@pytest.fixture
def target():
    return MemoryBlobStore()


def held(target, copied) -> dict[str, bytes]:
    return {one.digest: target.get(one.digest, one) for one in copied.locations}


def test_what_lies_in_a_pack_is_read_together_in_whatever_order_it_is_wanted(store, target):
    blobs = [blob(number) for number in range(8)]
    located = {one.digest: one for half in (blobs[:4], blobs[4:]) for one in store.put_pack(half)}
    watched = Watched(store)
    wanted = sorted(located)
    copied = copy_blobs(wanted, watched, located, target)
    assert held(target, copied) == {one.digest: one.data for one in blobs}
    assert copied.size_bytes == sum(len(one.data) for one in blobs)
    assert not watched.read_alone
    halves = [[one.digest for one in blobs[:4]], [one.digest for one in blobs[4:]]]
    assert sorted(watched.read_together) == sorted(halves)


def test_no_more_is_read_at_once_than_fits_in_memory(store, target, monkeypatch):
    monkeypatch.setattr(module, "_READ_BYTES", 250)
    blobs = [blob(number) for number in range(8)]
    located = {one.digest: one for one in store.put_pack(blobs)}
    watched = Watched(store)
    copied = copy_blobs(located, watched, located, target)
    assert len(copied.locations) == 8
    assert [len(group) for group in watched.read_together] == [3, 3, 2]


def test_loose_blobs_are_copied_beside_packed_ones(store, target):
    loose, packed = blob(1), blob(2)
    store.put(loose.digest, loose.data)
    located = {one.digest: one for one in store.put_pack([packed])}
    copied = copy_blobs([packed.digest, loose.digest], store, located, target)
    assert held(target, copied) == {loose.digest: loose.data, packed.digest: packed.data}


def test_what_cannot_be_read_is_named_and_keeps_nothing_else_from_being_copied(store, target):
    good, wrong, lost, absent = (blob(number) for number in range(4))
    located = {one.digest: one for one in store.put_pack([good])}
    located[wrong.digest] = BlobLocation(wrong.digest, located[good.digest].pack, 0, 100)
    located[lost.digest] = BlobLocation(lost.digest, "0" * 64, 0, 100)
    copied = copy_blobs([absent.digest, *located], store, located, target)
    assert held(target, copied) == {good.digest: good.data}
    assert copied.unreadable.keys() == {wrong.digest, lost.digest, absent.digest}
    assert all(digest in what for digest, what in copied.unreadable.items())


def test_loose_copy_stands_in_for_a_lost_pack(store, target):
    lost = blob(1)
    store.put(lost.digest, lost.data)
    located = {lost.digest: BlobLocation(lost.digest, "0" * 64, 0, 100)}
    copied = copy_blobs([lost.digest], store, located, target)
    assert held(target, copied) == {lost.digest: lost.data}
