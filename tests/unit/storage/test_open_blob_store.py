"""From URL to blob store."""

import hashlib

import pytest

from ledger.errors import CallerError, TransientError
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.s3_blobs import S3BlobStore


def test_file_url_opens_a_directory_and_makes_it(tmp_path):
    store = open_blob_store(f"file://{tmp_path}/with%20space/blobs")
    assert isinstance(store, FilesystemBlobStore)
    assert (tmp_path / "with space" / "blobs").is_dir()


def test_s3_url_opens_a_bucket():
    url = "s3://bucket/some/prefix?endpoint=https://s3.example.org&region=eu-1"
    assert isinstance(open_blob_store(url), S3BlobStore)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/var/lib/blobs",
        "file://relative/path",
        "file://",
        "ftp://host/blobs",
        "s3://",
        "s3://bucket?end_point=https://s3.example.org",
        "s3://key:secret@bucket/prefix",
    ],
)
def test_doubtful_url_is_refused(url):
    with pytest.raises(CallerError):
        open_blob_store(url)


def test_directory_that_cannot_be_made_is_transient(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TransientError, match=r"Not a directory|File exists"):
        open_blob_store(f"file://{tmp_path}/file/blobs")


def test_s3_store_that_is_away_is_transient(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    store = open_blob_store("s3://bucket/of/alpha?endpoint=http://127.0.0.1:1")
    digest = hashlib.sha256(b"one").hexdigest()
    for attempt in (
        lambda: store.put(digest, b"one"),
        lambda: store.get(digest),
        lambda: store.has(digest),
        lambda: store.delete(digest),
        lambda: list(store.list_packs()),
    ):
        with pytest.raises(
            TransientError, match=r"failed at [a-z ]+ s3://bucket/of/alpha/(loose|packs)"
        ):
            attempt()
