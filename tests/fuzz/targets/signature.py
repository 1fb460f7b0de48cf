"""Requests between servers: method, path, headers with their signature, and the body.

An input is a JSON object. A request is made and signed as a server makes it; then what the input
names is put in the place of its parts. It is answered in order, with a status that says what is
wrong; and it is carried out only when it is word for word what its sender signed.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from ledger.configuration import Limits
from ledger.migration.http_receiver import ReplicationApp
from ledger.migration.http_signature import sign_request
from ledger.migration.wire import MEDIA_TYPE, MissingRequest
from ledger.migration.wire_bytes import encode_request
from ledger.storage.disk_room import DiskRoom
from tests.fuzz.servers import StandingClock, receiver_of
from tests.fuzz.target import Target
from tests.fuzz.values import NOW
from tests.simulation.loop import VirtualLoop
from tests.support.sites import InPlace, make_sites

PATH = "/replication/missing"
BODY = encode_request(MissingRequest(digests=("ab" * 32,)))
ALLOWED = {200, 400, 401, 404, 405, 408, 411, 413, 415, 503}


ALPHA, BRAVO = make_sites().values()
APP = ReplicationApp(
    receiver_of(BRAVO),
    directory=BRAVO.directory,
    clock=StandingClock(),
    offload=InPlace(),
    body_timeout_s=10,
    room=DiskRoom([Path("/")], Limits(), free_bytes_at=lambda _: 1 << 40),
)


def _signed(**changes) -> dict[str, str]:
    asked = {
        "receiver": "bravo",
        "url": f"https://bravo:1{PATH}",
        "content_type": MEDIA_TYPE,
        "body": BODY,
        "now": NOW,
        "nonce": "1",
    }
    headers = sign_request(identity=ALPHA.identity, **(asked | changes))
    return headers | {"content-length": str(len(BODY))}


GOOD = _signed()


def seeds() -> list[bytes]:
    late = _signed(now=NOW + timedelta(minutes=50), nonce="2")
    documents = (
        {},
        {"method": "POST", "path": PATH, "headers": GOOD, "body": BODY.decode("latin-1")},
        {"headers": late, "more": [["x-more", "1"]]},
        {"method": "GET", "path": "/replication/ping", "headers": {}},
    )
    return [json.dumps(document).encode() for document in documents]


def run(data: bytes) -> bool:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(document, dict):
        return False
    method, path = str(document.get("method", "POST")), str(document.get("path", PATH))
    body = _latin(document.get("body", BODY.decode("latin-1")))
    headers = _headers(document)
    status = VirtualLoop().run(_ask(method, path, headers, body))
    assert status in ALLOWED
    is_carried_out = status == 200 and method == "POST"
    if is_carried_out:
        assert (path, body) == (PATH, BODY)
    return status == 200


def _headers(document: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """Give the headers as a server hands them over: names in lower case, no line ends."""
    named, more = document.get("headers", GOOD), document.get("more", [])
    pairs = list(named.items()) if isinstance(named, dict) else []
    pairs += [pair for pair in more if isinstance(pair, list)] if isinstance(more, list) else []
    return [(_latin(pair[0]).lower(), _latin(pair[1])) for pair in pairs if len(pair) == 2]


def _latin(value: Any) -> bytes:
    return str(value).encode("latin-1", "replace")


async def _ask(method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
    sent: list[Any] = []
    pieces = [
        {"type": "http.request", "body": body[:9], "more_body": True},
        {"type": "http.request", "body": body[9:], "more_body": False},
    ]

    async def receive() -> Any:
        return pieces.pop(0) if pieces else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    await APP(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"]


TARGET = Target(
    run,
    seeds,
    is_document=True,
    words=(
        *("signature", "signature-input", "content-digest", "sha-256=:", "sha-512=:", "sig1="),
        *("created=", "keyid=", "alg=", "nonce=", "tag=", "expires=", ";sf", ";bs", ";req"),
        *("@method", "@path", "@query", "@authority", "vmledger-sender", "?1", "=:"),
    ),
)
