"""The blob stores under contract; a real S3 server (rclone) stands behind the S3 adapter."""

import os

import pytest

from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.memory_blobs import MemoryBlobStore


@pytest.fixture(params=["memory", "filesystem"])
def store(request, tmp_path):
    if request.param == "memory":
        return MemoryBlobStore()
    return FilesystemBlobStore(tmp_path / "blobs")


@pytest.fixture
def spoil(tmp_path):
    """Change a stored byte of a loose blob behind the store's back."""

    def spoil_blob(store, digest):
        if isinstance(store, MemoryBlobStore):
            data, written_s = store.loose[digest]
            store.loose[digest] = (data[:-1] + b"?", written_s)
            return
        (path,) = (p for p in tmp_path.rglob("*") if p.is_file() and digest.endswith(p.name))
        data = path.read_bytes()
        os.truncate(path, 0)
        path.write_bytes(data[:-1] + b"?")

    return spoil_blob
