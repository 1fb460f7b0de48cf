"""What servers say to each other, as bytes: questions, answers and batches.

Bytes that begin like a message are read as they are. Anything else is taken for the JSON inside one
and sealed rightly, so that the checks behind the checksum are reached. Only PeerError may come out;
what was read is written and read again to the same.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

import msgspec

from ledger.errors import PeerError
from ledger.migration import wire
from ledger.storage.peer_cursors import HomeMark
from tests.fuzz.frames import seal
from tests.fuzz.target import Target
from tests.fuzz.values import RECEIPT

ID = UUID(int=7)
ROOT = "ab" * 32
BLOB = b"a stored form"
ROW = wire.TrackedRow(incarnation=ID, position=3, root=ROOT, seen_s_ago=1.5)
MARK = HomeMark(origin_position=2, home_position=5, home_root=ROOT)
REQUESTS = (
    wire.ContactRequest(
        origin="alpha", home="bravo", incarnation=ID, position=3, nonce="n", marks=(MARK,)
    ),
    wire.MissingRequest(digests=(ROOT, "cd" * 32)),
)
ANSWERS = (
    wire.ContactAnswer(nonce="n", home="bravo", home_incarnation=ID, tracked=(ROW,)),
    wire.Accepted(
        receipt=RECEIPT,
        refusals=(wire.Refusal(position=3, reason="conflict", detail="d", new_home="charlie"),),
    ),
    wire.Gap(tracked=(ROW,)),
    wire.Busy(retry_after_s=2),
    wire.Rejected(reason="no"),
    wire.RefusedVersion(versions=(2,)),
    wire.MissingAnswer(digests=(ROOT,)),
)
BATCH = wire.BatchHeader(
    origin="alpha",
    home="bravo",
    incarnation=ID,
    after_position=0,
    after_root=ROOT,
    through_position=3,
    through_root=ROOT,
    parcels=(
        wire.Parcel(
            position=3,
            events=(
                wire.WireEvent(2, msgspec.Raw(b'{"event":"call-received","v":1}')),
                wire.WireEvent(3, msgspec.Raw(b"{}")),
            ),
            blobs=(ROOT,),
        ),
    ),
    blobs=(wire.BlobEntry(hashlib.sha256(BLOB).hexdigest(), len(BLOB)),),
)


def seeds() -> list[bytes]:
    empty = msgspec.structs.replace(BATCH, blobs=())
    sealed = [*map(wire.encode_request, REQUESTS), *map(wire.encode_answer, ANSWERS)]
    plain = [msgspec.json.encode(message) for message in (*REQUESTS, *ANSWERS, empty)]
    return [*sealed, wire.encode_batch(BATCH, [BLOB]), wire.encode_batch(empty, []), *plain]


def run(data: bytes) -> bool:
    forms = (data,) * 3 if data.startswith(b"VML") else [seal(kind, data) for kind in "rab"]
    readers = (_request, _answer, _batch)
    tried = [_is_read(reader, form) for reader, form in zip(readers, forms, strict=True)]
    return any(tried)


def _is_read(reader, data: bytes) -> bool:
    try:
        reader(data)
    except PeerError as error:
        assert error.peer == "alpha"
        return False
    return True


def _request(data: bytes) -> None:
    message = wire.decode_request(data, "alpha")
    assert wire.decode_request(wire.encode_request(message), "alpha") == message


def _answer(data: bytes) -> None:
    message = wire.decode_answer(data, "alpha")
    assert wire.decode_answer(wire.encode_answer(message), "alpha") == message


def _batch(data: bytes) -> None:
    batch = wire.decode_batch(data, "alpha")
    again = wire.decode_batch(wire.encode_batch(batch.header, list(batch.blobs.values())), "alpha")
    assert _told(again) == _told(batch)


def _told(batch: wire.Batch) -> tuple:
    """What a batch says; its events are compared as bytes."""
    return msgspec.json.encode(batch.header), batch.blobs


TARGET = Target(run, seeds, is_document=True, words=("VMLr\x01", "VMLa\x01", "VMLb\x01"))
