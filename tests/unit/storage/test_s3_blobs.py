"""What the S3 adapter does when a store does not keep what it took."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore
import pytest
from obstore.store import MemoryStore

from ledger.errors import CorruptionError, NotFoundError, TransientError
from ledger.storage.blob_store import NewBlob
from ledger.storage.event_log import BlobLocation
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.s3_blobs import S3BlobStore
from ledger.storage.s3_objects import S3Objects

ONE = b"one" * 1_000
DIGEST = hashlib.sha256(ONE).hexdigest()
PATH = f"loose/{DIGEST[:2]}/{DIGEST[2:]}"


@pytest.fixture
def kept():
    return MemoryStore()


def blobs(kept) -> S3BlobStore:
    return S3BlobStore(S3Objects(kept, "s3://bucket/prefix"))


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
    store = blobs(kept)
    with pytest.raises(
        TransientError, match=f"took s3://bucket/prefix/{PATH} and does not have it"
    ):
        store.put(DIGEST, ONE)
    with pytest.raises(TransientError, match="does not have it"):
        store.put_pack([NewBlob(DIGEST, ONE)])


def test_store_that_keeps_other_bytes_is_transient(kept, after_put):
    after_put(lambda path, put: put(kept, path, b"other"))
    with pytest.raises(TransientError, match=f"kept other bytes .* s3://bucket/prefix/{PATH}"):
        blobs(kept).put(DIGEST, ONE)


def test_what_differs_is_left_for_a_writer_that_puts_it_right(kept, after_put, monkeypatch):
    store = blobs(kept)
    after_put(lambda path, put: put(kept, path, b"other"))
    with pytest.raises(TransientError):
        store.put(DIGEST, ONE)
    assert bytes(obstore.get(kept, PATH).bytes()) == b"other"
    monkeypatch.undo()
    store.put(DIGEST, ONE)
    assert store.get(DIGEST) == ONE


def test_absent_and_rotten_blobs_are_named_with_their_bucket(kept):
    store = blobs(kept)
    with pytest.raises(NotFoundError, match=f"not in s3://bucket/prefix/{PATH}"):
        store.get(DIGEST)
    obstore.put(kept, PATH, b"rotten")
    with pytest.raises(CorruptionError) as caught:
        store.get(DIGEST)
    assert caught.value.place == f"s3://bucket/prefix/{PATH}"
    (location,) = store.put_pack([NewBlob(DIGEST, b"rotten")])
    with pytest.raises(CorruptionError) as caught:
        store.get(DIGEST, location)
    assert caught.value.place == f"s3://bucket/prefix/packs/{location.pack}.pack:0"


class NoBucket(BaseHTTPRequestHandler):
    """Answers as S3 does where the bucket is not."""

    def do_GET(self):
        body = b"<Error><Code>NoSuchBucket</Code><Message>It does not exist</Message></Error>"
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def without_bucket(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with ThreadingHTTPServer(("127.0.0.1", 0), NoBucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield open_blob_store(f"s3://bucket?endpoint=http://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.mark.parametrize("location", [None, BlobLocation(DIGEST, "ab" * 32, 0, len(ONE))])
def test_bucket_that_is_not_there_has_not_lost_its_blobs(without_bucket, location):
    with pytest.raises(TransientError, match="check its address, bucket"):
        without_bucket.get(DIGEST, location)
