"""Segments of an archive are read within bounds, whoever carried them."""

import pytest
import zstandard

from ledger.errors import CorruptionError
from vmledger.archive import SEGMENTS, unpack


def test_segment_that_says_it_is_huge_is_not_unpacked(tmp_path):
    unpacked = b" " * (65 * 1024 * 1024)
    write(tmp_path, zstandard.ZstdCompressor(write_checksum=True).compress(unpacked))
    with pytest.raises(CorruptionError, match="too large"):
        unpack(tmp_path, tmp_path / "copy")


def test_segment_that_does_not_say_how_large_it_is_is_not_unpacked(tmp_path):
    whole = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False)
    write(tmp_path, whole.compress(b"{}"))
    with pytest.raises(CorruptionError, match="of no stated size"):
        unpack(tmp_path, tmp_path / "copy")


def test_file_longer_than_any_segment_is_not_read(tmp_path):
    with write(tmp_path, b"").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptionError, match="longer than any segment"):
        unpack(tmp_path, tmp_path / "copy")


def write(folder, data):
    (folder / SEGMENTS).mkdir()
    file = folder / SEGMENTS / f"{1:020}-{9:020}.segment"
    file.write_bytes(data)
    return file
