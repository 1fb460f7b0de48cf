"""Segments of an archive are read within bounds, whoever carried them."""

from pathlib import Path

import obstore
import pytest
import zstandard
from obstore.store import MemoryStore

from ledger.errors import CallerError, ConflictError, CorruptionError, NotFoundError
from ledger.storage.memory_blobs import MemoryBlobStore
from ledger.storage.s3_objects import S3Objects
from vmledger.archive import unpack
from vmledger.archive_place import SEGMENTS, BucketPlace, DirectoryPlace, open_place


def test_segment_that_says_it_is_huge_is_not_unpacked(tmp_path):
    unpacked = b" " * (65 * 1024 * 1024)
    write(tmp_path, zstandard.ZstdCompressor(write_checksum=True).compress(unpacked))
    with pytest.raises(CorruptionError, match="too large"):
        unpack(DirectoryPlace(tmp_path), tmp_path / "copy")


def test_segment_that_does_not_say_how_large_it_is_is_not_unpacked(tmp_path):
    whole = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False)
    write(tmp_path, whole.compress(b"{}"))
    with pytest.raises(CorruptionError, match="of no stated size"):
        unpack(DirectoryPlace(tmp_path), tmp_path / "copy")


def test_file_longer_than_any_segment_is_not_read(tmp_path):
    with write(tmp_path, b"").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptionError, match="longer than 67108864 bytes"):
        unpack(DirectoryPlace(tmp_path), tmp_path / "copy")


def test_object_longer_than_any_segment_is_not_read(tmp_path):
    store = MemoryStore()
    obstore.put(store, f"{SEGMENTS}/{NAME}", bytes(65 * 1024 * 1024))
    place = bucket(store, tmp_path)
    with pytest.raises(CorruptionError, match="longer than 67108864 bytes") as refused:
        unpack(place, tmp_path / "copy")
    assert f"s3://calls/{SEGMENTS}/{NAME}" in str(refused.value)


def test_only_segments_count_and_they_come_in_their_order(tmp_path):
    store = MemoryStore()
    place = bucket(store, tmp_path)
    names = [f"{first:020}-{first + 8:020}.segment" for first in (1, 10, 100)]
    for name in (*reversed(names), "README"):
        place.write(name, b"bytes")
    assert place.segments() == names
    assert place.read(names[0], 5) == b"bytes"


@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_archive_has_one_writer_at_a_time(tmp_path, kind):
    is_bucket = kind == "bucket"
    one, other = (
        bucket(MemoryStore(), tmp_path / "lock") if is_bucket else DirectoryPlace(tmp_path)
        for _ in range(2)
    )
    with one.hold(), pytest.raises(ConflictError, match=r"the archive in .* is being written"):
        other.hold()
    with other.hold():
        pass


@pytest.mark.parametrize(
    "name",
    [
        "https://s3.example.org/calls",
        "s3:/calls",
        "s3://",
        "s3://key:secret@calls",
        "s3://calls?at=x",
    ],
)
def test_doubtful_place_is_refused(name):
    with pytest.raises(CallerError):
        open_place(name)


def test_directory_that_is_to_be_read_must_be_an_archive(tmp_path):
    with pytest.raises(NotFoundError, match="is no archive"):
        open_place(str(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


NAME = f"{1:020}-{9:020}.segment"


def bucket(store: MemoryStore, lock: Path) -> BucketPlace:
    return BucketPlace(S3Objects(store, "s3://calls"), MemoryBlobStore(), lock)


def write(folder, data):
    (folder / SEGMENTS).mkdir()
    file = folder / SEGMENTS / NAME
    file.write_bytes(data)
    return file
