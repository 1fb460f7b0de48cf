"""Verifying blobs, and dropping those that nothing needs."""

import hashlib
import os

import pytest

from ledger.errors import CallerError
from ledger.storage.blob_care import gc, verify
from ledger.storage.blob_store import NewBlob
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.memory_blobs import MemoryBlobStore

DAY_S = 86_400.0


class Time:
    s = 1_000_000.0

    def __call__(self):
        return self.s


@pytest.fixture
def time_s():
    return Time()


@pytest.fixture(params=["memory", "filesystem"])
def blobs(request, tmp_path, time_s):
    if request.param == "memory":
        return MemoryBlobStore(now_s=time_s)
    return FilesystemBlobStore(tmp_path, now_s=time_s)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def put(blobs, data):
    blobs.put(digest(data), data)
    age(blobs, digest(data))
    return digest(data)


def put_pack(blobs, *contents):
    locations = blobs.put_pack([NewBlob(digest(c), c) for c in contents])
    age(blobs, locations[0].pack)
    return {loc.digest: loc for loc in locations}


def age(blobs, name):
    """New files carry the machine's time: set them to the test's."""
    if isinstance(blobs, FilesystemBlobStore):
        for path in blobs._root.rglob("*"):
            if path.is_file() and (name.endswith(path.name) or path.stem == name):
                os.utime(path, (blobs._now_s(), blobs._now_s()))


def names(stored):
    return {blob.digest for blob in stored}


def test_sound_store_has_nothing_to_report(blobs):
    one = put(blobs, b"one")
    packed = put_pack(blobs, b"two", b"three")
    report = verify(blobs, [one, *packed, one], packed)
    assert report.is_sound
    assert (report.checked, report.checked_bytes) == (3, 11)
    assert report.orphan_loose == report.orphan_packs == []


def test_missing_loose_and_packed_blobs_are_named(blobs):
    packed = put_pack(blobs, b"two", b"three")
    blobs.delete_pack(packed[digest(b"two")].pack)
    report = verify(blobs, [digest(b"one"), *packed], packed)
    assert report.missing == [digest(b"one"), digest(b"two"), digest(b"three")]
    assert not report.is_sound


def test_rotten_blob_is_named_with_what_is_there():
    blobs = MemoryBlobStore()
    one = put(blobs, b"one")
    blobs.loose[one] = (b"0ne", 0.0)
    report = verify(blobs, [one], {})
    assert [(r.digest, r.found) for r in report.corrupt] == [(one, digest(b"0ne"))]
    assert not report.is_sound


def test_rotten_part_of_a_pack_condemns_only_that_part():
    blobs = MemoryBlobStore()
    packed = put_pack(blobs, b"two", b"three")
    pack = packed[digest(b"two")].pack
    blobs.packs[pack] = (b"twothrEE", 0.0)
    report = verify(blobs, packed, packed)
    assert [r.digest for r in report.corrupt] == [digest(b"three")]


def test_what_nothing_wants_is_an_orphan_with_size_and_age(blobs, time_s):
    put(blobs, b"orphan")
    packed = put_pack(blobs, b"two", b"three")
    time_s.s += 10
    report = verify(blobs, [], {})
    (loose,) = report.orphan_loose
    (pack,) = report.orphan_packs
    assert report.is_sound
    assert (loose.digest, loose.size_bytes, loose.age_s) == (digest(b"orphan"), 6, 10.0)
    assert (pack.digest, pack.size_bytes) == (packed[digest(b"two")].pack, 8)


def test_gc_drops_old_orphans_and_only_them(blobs, time_s):
    kept, dropped = put(blobs, b"kept"), put(blobs, b"dropped")
    needed_pack = put_pack(blobs, b"needed", b"not needed")
    orphan_pack = put_pack(blobs, b"nothing", b"here")
    time_s.s += DAY_S
    young = put(blobs, b"young")
    needed = {kept, digest(b"needed")}
    locations = {digest(b"needed"): needed_pack[digest(b"needed")]}
    report = gc(blobs, needed, locations, min_age_s=3600)
    assert names(report.dropped_loose) == {dropped}
    assert names(report.dropped_packs) == {orphan_pack[digest(b"here")].pack}
    assert names(report.kept_young) == {young}
    assert (report.kept, report.freed_bytes) == (2, len(b"droppednothinghere"))
    assert names(blobs.list_loose()) == {kept, young}
    assert names(blobs.list_packs()) == {locations[digest(b"needed")].pack}
    assert verify(blobs, needed, locations).is_sound


def test_dry_run_drops_nothing_and_says_the_same(blobs, time_s):
    put(blobs, b"one")
    put_pack(blobs, b"two")
    time_s.s += DAY_S
    tried = gc(blobs, set(), {}, min_age_s=3600, dry_run=True)
    assert len(list(blobs.list_loose())) == len(list(blobs.list_packs())) == 1
    done = gc(blobs, set(), {}, min_age_s=3600)
    assert (tried.dropped_loose, tried.dropped_packs) == (done.dropped_loose, done.dropped_packs)
    assert list(blobs.list_loose()) == list(blobs.list_packs()) == []


def test_blob_that_is_put_again_is_young_again(blobs, time_s):
    one = put(blobs, b"one")
    time_s.s += DAY_S
    blobs.put(one, b"one")
    report = gc(blobs, set(), {}, min_age_s=3600)
    assert names(report.kept_young) == {one}
    assert blobs.get(one) == b"one"


def test_gc_without_an_age_is_refused(blobs):
    with pytest.raises(CallerError):
        gc(blobs, set(), {}, min_age_s=0)


def test_progress_counts_every_blob(blobs, time_s):
    one, two = put(blobs, b"one"), put(blobs, b"two")
    put_pack(blobs, b"three")
    time_s.s += DAY_S
    seen = []
    verify(blobs, [one, two], {}, seen.append)
    gc(blobs, set(), {}, min_age_s=1, progress=seen.append)
    assert seen == [1, 2, 1, 2, 3]
