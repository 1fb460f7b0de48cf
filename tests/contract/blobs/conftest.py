"""The blob stores under contract; a real S3 server (rclone) stands behind the S3 adapter.

rclone ignores ranges, so the S3 adapter runs a second time over obstore's own store, which does
not.
"""

import itertools
import os

import pytest
from obstore.store import LocalStore

from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.memory_blobs import MemoryBlobStore
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.s3_blobs import S3BlobStore
from ledger.storage.s3_objects import S3Objects
from tests.support.s3_server import KEY, SECRET, s3_server

_prefixes = itertools.count()


@pytest.fixture(scope="session")
def s3_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("s3")
    (root / "bucket").mkdir()
    return root


@pytest.fixture(scope="session")
def s3_endpoint(s3_root):
    with s3_server(s3_root) as endpoint:
        yield endpoint


@pytest.fixture(params=["memory", "filesystem", "s3", "s3-with-ranges"])
def kind(request):
    return request.param


@pytest.fixture
def root(kind, request, tmp_path):
    """Where the store's bytes lie on this machine, for those that want to spoil them."""
    if kind == "s3":
        return request.getfixturevalue("s3_root") / "bucket" / f"blobs-{next(_prefixes)}"
    return tmp_path / "blobs"


@pytest.fixture
def store(kind, request, root, monkeypatch):
    if kind == "memory":
        return MemoryBlobStore()
    if kind == "filesystem":
        return FilesystemBlobStore(root)
    if kind == "s3-with-ranges":
        return S3BlobStore(S3Objects(LocalStore(root, mkdir=True), "s3://bucket"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    endpoint = request.getfixturevalue("s3_endpoint")
    return open_blob_store(f"s3://bucket/{root.name}?endpoint={endpoint}")


@pytest.fixture
def spoil(root):
    """Change a stored byte of a loose blob behind the store's back."""

    def spoil_blob(store, digest):
        if isinstance(store, MemoryBlobStore):
            data, written_s = store.loose[digest]
            store.loose[digest] = (data[:-1] + b"?", written_s)
            return
        (path,) = (p for p in root.rglob("*") if p.is_file() and digest.endswith(p.name))
        data = path.read_bytes()
        os.truncate(path, 0)
        path.write_bytes(data[:-1] + b"?")

    return spoil_blob
