"""A segment of an archive, as whoever carried it gives it back.

An input that begins with a brace is the JSON inside, rightly compressed; anything else is the file
as it lies there. Only the errors of the program may come out: CorruptionError, NotFoundError, or
CallerError. What is unpacked has the root that the segment says, and the very events.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import zstandard

from ledger.checkpoint import Checkpoint, log_name, sign_checkpoint
from ledger.errors import CallerError, CorruptionError, NotFoundError
from ledger.migration.wire import CopiedEvent
from ledger.storage.event_log import BlobLocation
from tests.fuzz.target import Target
from tests.fuzz.targets.proof import ALPHA, HEAD, LOG
from vmledger.archive import Segment, unpack
from vmledger.archive_place import SEGMENTS, DirectoryPlace

_COMPRESSOR = zstandard.ZstdCompressor(write_checksum=True)


def _segment() -> bytes:
    said = Checkpoint(log_name("alpha", HEAD.incarnation), HEAD.position, HEAD.root)
    return msgspec.json.encode(
        Segment(
            after_position=0,
            through_position=HEAD.position,
            root=HEAD.root.hex(),
            checkpoint=sign_checkpoint(said, ALPHA).to_text(),
            events=tuple(
                CopiedEvent(msgspec.Raw(entry.plain), None, None) for entry in LOG.read(1, 10)
            ),
            blobs=(BlobLocation("b" * 64, "c" * 64, 0, 9),),
        )
    )


def seeds() -> list[bytes]:
    return [_segment(), _COMPRESSOR.compress(_segment())]


def run(data: bytes) -> bool:
    is_json = data.startswith(b"{")
    with tempfile.TemporaryDirectory() as folder:
        archive, target = Path(folder) / "archive", Path(folder) / "copy"
        (archive / SEGMENTS).mkdir(parents=True)
        file = archive / SEGMENTS / f"{1:020}-{HEAD.position:020}.segment"
        file.write_bytes(_COMPRESSOR.compress(data) if is_json else data)
        try:
            copy = unpack(DirectoryPlace(archive), target)
        except (CallerError, CorruptionError, NotFoundError):
            return False
        try:
            plain = data if is_json else zstandard.ZstdDecompressor().decompress(data)
            segment = msgspec.json.decode(plain, type=Segment)
            head = copy.recorder.head()
            assert (head.position, head.root.hex()) == (segment.through_position, segment.root)
            held = [bytes(entry.plain) for entry in copy.recorder.read(1, 1000)]
            assert held == [bytes(copied.plain) for copied in segment.events]
        finally:
            copy.close()
    return True


TARGET = Target(run, seeds, is_document=True)
