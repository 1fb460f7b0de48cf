"""What the S3 adapter does when a store does not keep what it took."""

import hashlib

import obstore
import pytest
from obstore.store import MemoryStore

from ledger.errors import TransientError
from ledger.storage.blob_store import NewBlob
from ledger.storage.s3_blobs import S3BlobStore

ONE = b"one" * 1_000
DIGEST = hashlib.sha256(ONE).hexdigest()
PATH = f"loose/{DIGEST[:2]}/{DIGEST[2:]}"


@pytest.fixture
def kept():
    return MemoryStore()


@pytest.fixture
def after_put(monkeypatch, kept):
    """Do something to the store as soon as it has answered a PUT."""
    real = obstore.put

    def set_action(action):
        def put(store, path, data):
            result = real(store, path, data)
            action(path, real)
            return result

        monkeypatch.setattr(obstore, "put", put)

    return set_action


def test_store_that_loses_what_it_took_is_transient(kept, after_put):
    after_put(lambda path, put: obstore.delete(kept, path))
    store = S3BlobStore(kept)
    with pytest.raises(TransientError, match="does not have it"):
        store.put(DIGEST, ONE)
    with pytest.raises(TransientError, match="does not have it"):
        store.put_pack([NewBlob(DIGEST, ONE)])


def test_store_that_keeps_other_bytes_is_transient(kept, after_put):
    after_put(lambda path, put: put(kept, path, b"other"))
    with pytest.raises(TransientError, match="kept other bytes"):
        S3BlobStore(kept).put(DIGEST, ONE)


def test_what_differs_is_left_for_a_writer_that_puts_it_right(kept, after_put, monkeypatch):
    store = S3BlobStore(kept)
    after_put(lambda path, put: put(kept, path, b"other"))
    with pytest.raises(TransientError):
        store.put(DIGEST, ONE)
    assert bytes(obstore.get(kept, PATH).bytes()) == b"other"
    monkeypatch.undo()
    store.put(DIGEST, ONE)
    assert store.get(DIGEST) == ONE
