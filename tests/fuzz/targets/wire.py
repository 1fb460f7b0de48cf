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
from ledger.migration import wire, wire_bytes
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
    wire.WitnessRequest(origin="alpha", home="bravo", checkpoint="note", old_size=2, proof=(ROOT,)),
    wire.RecallRequest(origin="alpha", home="bravo", after_position=4),
    wire.BlobRequest(stream=ID, version=2),
    wire.StoryRequest(message_id=ID, call_id=ID, asked_by="operator"),
    wire.LogRequest(origin="alpha", home="bravo", after_position=4, stop_position=9),
    wire.LogStateRequest(of="alpha", held_incarnation=ID, held_position=3),
    wire.LogPageRequest(
        of="alpha", after_position=1, after_root=ROOT, through_position=9, tree_size=9
    ),
    wire.BlobsRequest(of="alpha", digests=(ROOT,)),
)
EVENT = msgspec.Raw(b'{"event":"call-received","v":1}')
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
    wire.Cosigned(note="note"),
    wire.Witnessed(note="note"),
    wire.RecallAnswer(
        incarnation=ID,
        after_position=4,
        through_position=9,
        is_last=True,
        tracked=(ROW,),
        events=(wire.RecalledEvent(3, EVENT),),
        keys=b"k" * 96,
        destroyed=(ID,),
    ),
    wire.BlobAnswer(data=BLOB),
    wire.StoryAnswer(
        server="alpha",
        position=9,
        events=(wire.WireEvent(2, EVENT),),
        around=(wire.WireEvent(3, EVENT),),
    ),
    wire.LogAnswer(
        server="alpha",
        incarnation=ID,
        position=9,
        after_position=4,
        hashes=b"h" * 32,
        taken=(wire.TakenRow(5, 2, ID),),
        acknowledged=(7,),
    ),
    wire.LogState(
        copies=(
            wire.CopyState(
                name="", incarnation=ID, position=3, root=ROOT, checkpoint="note", former=(ID,)
            ),
        ),
        witnessed=("note",),
        tracked=(ROW,),
    ),
    wire.LogPage(
        after_position=2,
        through_position=3,
        root=ROOT,
        proof=(ROOT,),
        events=(wire.CopiedEvent(EVENT, "bravo", 5),),
        keys=(wire.KeptKey(ID, b"wrapped"), wire.KeptKey(ID, None)),
        checkpoint="note",
        origins=(wire.OriginRow(origin="bravo", incarnation=ID, position=5, root=ROOT),),
        cosigned=(wire.CosignedRow(log="log", witness="bravo", size=3, note="note"),),
    ),
)
BLOBS = wire.Blobs({hashlib.sha256(BLOB).hexdigest(): BLOB}, (ROOT,))
BATCH = wire.BatchHeader(
    origin="alpha",
    home="bravo",
    incarnation=ID,
    contact="n",
    after_position=0,
    after_root=ROOT,
    through_position=3,
    through_root=ROOT,
    keys=b"k" * 96,
    parcels=(
        wire.Parcel(
            position=3,
            events=(
                wire.WireEvent(2, EVENT),
                wire.WireEvent(3, msgspec.Raw(b"{}")),
            ),
            blobs=(ROOT,),
        ),
    ),
    blobs=(wire.BlobEntry(hashlib.sha256(BLOB).hexdigest(), len(BLOB)),),
)


def seeds() -> list[bytes]:
    empty = msgspec.structs.replace(BATCH, blobs=())
    sealed = [*map(wire_bytes.encode_request, REQUESTS), *map(wire_bytes.encode_answer, ANSWERS)]
    plain = [msgspec.json.encode(message) for message in (*REQUESTS, *ANSWERS, empty)]
    batches = [wire_bytes.encode_batch(BATCH, [BLOB]), wire_bytes.encode_batch(empty, [])]
    no_blobs = msgspec.json.encode(wire.BlobsHeader(blobs=(), absent=(ROOT,)))
    given = wire_bytes.encode_blobs(BLOBS)
    return [*sealed, *batches, given, given[:-1] + b"!", *plain, no_blobs]


def run(data: bytes) -> bool:
    forms = (data,) * 4 if data.startswith(b"VML") else [seal(kind, data) for kind in "rabd"]
    readers = (_request, _answer, _batch, _blobs)
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
    message = wire_bytes.decode_request(data, "alpha")
    assert wire_bytes.decode_request(wire_bytes.encode_request(message), "alpha") == message


def _answer(data: bytes) -> None:
    message = wire_bytes.decode_answer(data, "alpha")
    again = wire_bytes.decode_answer(wire_bytes.encode_answer(message), "alpha")
    # Events are compared as bytes.
    assert (type(again), _json(again)) == (type(message), _json(message))


def _json(message: wire.Message) -> bytes:
    return msgspec.json.encode(message)


def _batch(data: bytes) -> None:
    batch = wire_bytes.decode_batch(data, "alpha")
    again = wire_bytes.decode_batch(
        wire_bytes.encode_batch(batch.header, list(batch.blobs.values())), "alpha"
    )
    assert _told(again) == _told(batch)


def _blobs(data: bytes) -> None:
    answer = wire_bytes.decode_blobs(data, "alpha")
    if isinstance(answer, wire.Blobs):
        for digest, blob in answer.blobs.items():
            assert hashlib.sha256(blob).hexdigest() == digest
        sound = answer._replace(damaged=())
        assert wire_bytes.decode_blobs(wire_bytes.encode_blobs(answer), "alpha") == sound


def _told(batch: wire.Batch) -> tuple:
    """What a batch says; its events are compared as bytes."""
    return msgspec.json.encode(batch.header), batch.blobs


TARGET = Target(
    run, seeds, is_document=True, words=("VMLr\x01", "VMLa\x01", "VMLb\x01", "VMLd\x01")
)
