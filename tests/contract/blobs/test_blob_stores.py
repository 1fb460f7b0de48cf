"""What every blob store promises, over every adapter."""

import hashlib
import threading

import pytest

from ledger.errors import CorruptionError, NotFoundError
from ledger.storage.blob_store import BlobStore, NewBlob
from ledger.storage.event_log import BlobLocation

ONE, TWO, THREE = b"one" * 1000, b"two" * 5000, b"three"
ABSENT = hashlib.sha256(b"absent").hexdigest()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob(data: bytes) -> NewBlob:
    return NewBlob(digest(data), data)


def test_loose_blob_comes_back(store: BlobStore):
    store.put(digest(ONE), ONE)
    assert store.get(digest(ONE)) == ONE
    assert store.has(digest(ONE))


def test_empty_blob_comes_back(store):
    store.put(digest(b""), b"")
    assert store.get(digest(b"")) == b""


def test_putting_twice_keeps_one(store):
    store.put(digest(ONE), ONE)
    store.put(digest(ONE), ONE)
    assert [b.digest for b in store.list_loose()] == [digest(ONE)]


def test_bytes_of_another_address_are_refused(store):
    with pytest.raises(CorruptionError) as caught:
        store.put(digest(ONE), TWO)
    assert (caught.value.expected, caught.value.found) == (digest(ONE), digest(TWO))
    assert not store.has(digest(ONE))


def test_absent_blob_is_not_found(store):
    assert not store.has(ABSENT)
    with pytest.raises(NotFoundError, match=ABSENT):
        store.get(ABSENT)


def test_file_becomes_a_loose_blob_and_stays(store, tmp_path):
    path = tmp_path / "finished"
    path.write_bytes(TWO)
    store.put_file(digest(TWO), path)
    assert store.get(digest(TWO)) == TWO
    assert path.read_bytes() == TWO
    path.unlink()
    assert store.get(digest(TWO)) == TWO


def test_putting_a_file_twice_is_harmless(store, tmp_path):
    path = tmp_path / "finished"
    path.write_bytes(TWO)
    store.put_file(digest(TWO), path)
    store.put_file(digest(TWO), path)
    assert [b.digest for b in store.list_loose()] == [digest(TWO)]


def test_file_of_another_address_is_refused(store, tmp_path):
    path = tmp_path / "finished"
    path.write_bytes(TWO)
    with pytest.raises(CorruptionError):
        store.put_file(digest(ONE), path)
    assert not store.has(digest(ONE))


def test_absent_file_is_not_found(store, tmp_path):
    with pytest.raises(NotFoundError):
        store.put_file(digest(ONE), tmp_path / "nothing")


def test_packed_blobs_come_back(store):
    locations = store.put_pack([blob(ONE), blob(b""), blob(TWO), blob(THREE)])
    assert [loc.digest for loc in locations] == [digest(d) for d in (ONE, b"", TWO, THREE)]
    assert [store.get(loc.digest, loc) for loc in locations] == [ONE, b"", TWO, THREE]


def test_pack_is_named_by_the_blobs_in_it(store):
    (location, _) = store.put_pack([blob(ONE), blob(TWO)])
    assert location.pack == digest((digest(ONE) + digest(TWO)).encode())
    assert [p.digest for p in store.list_packs()] == [location.pack]


def test_same_pack_twice_is_one(store):
    assert store.put_pack([blob(ONE), blob(TWO)]) == store.put_pack([blob(ONE), blob(TWO)])
    assert len(list(store.list_packs())) == 1


def test_empty_pack_is_nothing(store):
    assert store.put_pack([]) == []
    assert list(store.list_packs()) == []


def test_packed_blob_is_not_loose(store):
    (location,) = store.put_pack([blob(ONE)])
    assert not store.has(digest(ONE))
    assert list(store.list_loose()) == []
    with pytest.raises(NotFoundError):
        store.get(location.digest)


def test_wrong_place_in_a_pack_is_corruption(store):
    (location,) = store.put_pack([blob(ONE)])
    shifted = BlobLocation(digest(ONE), location.pack, 1, len(ONE) - 1)
    with pytest.raises(CorruptionError):
        store.get(digest(ONE), shifted)


def test_place_beyond_the_end_of_a_pack_is_corruption(store):
    (location,) = store.put_pack([blob(ONE)])
    beyond = BlobLocation(digest(ONE), location.pack, len(ONE) + 5, len(ONE))
    with pytest.raises(CorruptionError):
        store.get(digest(ONE), beyond)


def test_lost_pack_is_not_found(store):
    (location,) = store.put_pack([blob(ONE)])
    store.delete_pack(location.pack)
    with pytest.raises(NotFoundError):
        store.get(digest(ONE), location)


def test_loose_copy_heals_a_lost_pack(store):
    (location,) = store.put_pack([blob(ONE)])
    store.delete_pack(location.pack)
    store.put(digest(ONE), ONE)
    assert store.get(digest(ONE), location) == ONE


def test_rotten_loose_blob_is_corruption(store, spoil):
    store.put(digest(ONE), ONE)
    spoil(store, digest(ONE))
    with pytest.raises(CorruptionError, match=digest(ONE)):
        store.get(digest(ONE))


def test_putting_good_bytes_replaces_a_rotten_blob(store, spoil):
    store.put(digest(ONE), ONE)
    spoil(store, digest(ONE))
    store.put(digest(ONE), ONE)
    assert store.get(digest(ONE)) == ONE


def test_deleted_blob_is_gone_and_deleting_again_is_fine(store):
    store.put(digest(ONE), ONE)
    store.delete(digest(ONE))
    store.delete(digest(ONE))
    assert not store.has(digest(ONE))


def test_deleting_an_absent_pack_is_fine(store):
    store.delete_pack(ABSENT)


def test_lists_say_size_and_age(store):
    store.put(digest(ONE), ONE)
    store.put_pack([blob(TWO), blob(THREE)])
    (loose,) = store.list_loose()
    (pack,) = store.list_packs()
    assert (loose.size_bytes, pack.size_bytes) == (len(ONE), len(TWO + THREE))
    assert 0 <= loose.age_s < 3600
    assert 0 <= pack.age_s < 3600


def test_many_threads_put_the_same_blobs(store):
    errors: list[Exception] = []

    def put_all():
        try:
            for data in (ONE, TWO, THREE):
                store.put(digest(data), data)
                store.put_pack([blob(data), blob(ONE)])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=put_all) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {b.digest for b in store.list_loose()} == {digest(d) for d in (ONE, TWO, THREE)}
    assert all(store.get(digest(d)) == d for d in (ONE, TWO, THREE))


def test_many_packed_blobs_are_read_at_once_and_spoilt_ones_are_left_out(store):
    one, two, three = (blob(f"{n}".encode() * 50) for n in (1, 2, 3))
    locations = [*store.put_pack([one, two]), *store.put_pack([three])]
    wrong = BlobLocation(two.digest, locations[0].pack, 0, 50)
    absent = BlobLocation(one.digest, "0" * 64, 0, 50)
    assert store.get_many(locations) == {b.digest: b.data for b in (one, two, three)}
    assert store.get_many([locations[2], wrong, locations[0]]) == {
        one.digest: one.data,
        three.digest: three.data,
    }
    assert store.get_many([absent]) == {}
    assert store.get_many([]) == {}


def test_spoilt_blobs_are_given_too_when_the_caller_will_verify_them_but_no_cut_ones(store):
    one, two = (blob(f"{n}".encode() * 50) for n in (1, 2))
    first, second = store.put_pack([one, two])
    wrong = BlobLocation(two.digest, first.pack, 0, 50)
    cut = BlobLocation("1" * 64, first.pack, 90, 50)
    absent = BlobLocation("2" * 64, "0" * 64, 0, 50)
    assert store.get_many([first, second], is_verified=False) == {
        one.digest: one.data,
        two.digest: two.data,
    }
    assert store.get_many([wrong], is_verified=False) == {two.digest: one.data}
    assert store.get_many([first, cut, absent], is_verified=False) == {one.digest: one.data}
