"""The log as public logs are served, read by code that shares nothing with the one that wrote it.

`pymerkle` verifies what the tiles say; signatures are checked with the key alone.
"""

import base64
from hashlib import sha256

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pymerkle import InmemoryTree

from tests.support.api import some_id, wav
from vmledger.message_proof import check_proof, read_proof


def checkpoint(api) -> tuple[str, int, bytes]:
    """Read the signed checkpoint as its specification says, and check its signature."""
    note = api.operator.get("/v1/log/tlog/checkpoint").text
    text, _, signatures = note.rpartition("\n\n")
    log, size, root = text.split("\n")
    dash, name, signature = signatures.removesuffix("\n").split(" ")
    assert (dash, name) == ("—", log)
    data = base64.b64decode(signature)
    key = api.program.config.directory.own.public_key
    assert data[:4] == sha256(name.encode() + b"\n\x01" + key).digest()[:4]
    Ed25519PublicKey.from_public_bytes(key).verify(data[4:], f"{text}\n".encode())
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(key).verify(data[4:], f"{text}!\n".encode())
    return log, int(size), base64.b64decode(root)


def places(size: int) -> list[str]:
    """Name all tiles of a level with so many hashes."""
    full, rest = divmod(size, 256)
    return [f"{index:03d}" for index in range(full)] + ([f"{full:03d}.p/{rest}"] if rest else [])


def unbundle(data: bytes) -> list[bytes]:
    events = []
    while data:
        length = int.from_bytes(data[:2], "big")
        events.append(data[2 : 2 + length])
        data = data[2 + length :]
    return events


def test_tiles_and_events_give_the_root_of_the_signed_checkpoint(api):
    for number in range(140):
        api.report(f"17{number % 100:02d}")
    _, size, root = checkpoint(api)
    assert size > 256, "more than one tile is wanted here"
    read = lambda path: api.operator.get(f"/v1/log/tlog/tile/{path}")  # noqa: E731
    events = [e for place in places(size) for e in unbundle(read(f"entries/{place}").content)]
    hashes = b"".join(read(f"0/{place}").content for place in places(size))
    assert len(events) == size
    assert b"".join(sha256(b"\0" + event).digest() for event in events) == hashes
    tree = InmemoryTree(algorithm="sha256")
    for event in events:
        tree.append_entry(event)
    assert tree.get_root() == root
    assert read(f"1/000.p/{size // 256}").content[:32] == tree.get_root(256)


def test_full_tile_may_be_kept_for_ever_and_a_checkpoint_only_a_moment(api):
    api.leave_message("1701")
    tile = api.operator.get("/v1/log/tlog/tile/0/000.p/2")
    assert "immutable" in tile.headers["cache-control"]
    head = api.operator.get("/v1/log/tlog/checkpoint")
    assert "immutable" not in head.headers["cache-control"]
    assert head.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("0/x999/999", 404),
        ("entries/x999/999", 404),
        ("1/099", 404),
        ("0/1", 400),
        ("0/000.p/0", 400),
        ("8/000", 400),
        ("entries/0", 400),
        (f"0/{'x999/' * 8}999", 404),
        (f"7/{'x999/' * 8}999.p/1", 404),
        (f"entries/{'x999/' * 8}999", 404),
    ],
)
def test_tile_that_is_not_there_is_a_clear_error(api, path, status):
    answer = api.operator.get(f"/v1/log/tlog/tile/{path}")
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


def test_proof_of_a_message_holds_for_whoever_has_the_servers_key(api):
    message = api.leave_message("1702")
    answer = api.operator.get(f"/v1/log/proof/{message['message_id']}")
    proof = read_proof(answer.content)
    keys = {"alpha": api.program.config.directory.own.public_key}
    report = check_proof(proof, keys)
    assert report.holds, report.problems
    assert report.is_recording(wav())
    assert not report.is_recording(wav(level=7))
    assert message["digest"] == sha256(wav()).hexdigest() != report.audio_digest
    assert [fact.event for fact in report.facts] == [
        "call-received",
        "transfer-decided",
        "message-stored",
        "message-delivered",
    ]


def test_proof_names_nobody_who_called(api):
    message = api.leave_message("1006")
    answer = api.operator.get(f"/v1/log/proof/{message['message_id']}")
    assert "call-received" in answer.text
    assert "4930123" not in answer.text


def test_there_is_no_proof_of_an_unknown_message(api):
    assert api.operator.get(f"/v1/log/proof/{some_id()}").status_code == 404
