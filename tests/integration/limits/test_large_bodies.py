"""Bodies that are too large, on every route of a real server that takes one."""

import contextlib
import socket
import uuid

import pytest

from ledger.mailbox import GreetingKind
from tests.support.api import wav
from tests.support.pair import Client, set_keys, write_pair
from tests.support.processes import Servers

GIB = 1 << 30
LIMIT_BYTES = 100_000
ID = uuid.UUID(int=0)
JSON_ROUTES = [
    ("POST", "/v1/calls"),
    ("PATCH", f"/v1/mailboxes/1001/messages/{ID}"),
    ("POST", "/v1/log/backups"),
    ("POST", "/v1/log/acknowledgements"),
    ("POST", "/v1/retention/run"),
    ("POST", "/v1/mailboxes/1001/hold"),
    ("PUT", "/v1/mailboxes/1001/pin"),
    ("POST", "/v1/mailboxes/1001/pin/check"),
]


@pytest.fixture(scope="module")
def alpha(tmp_path_factory):
    config = write_pair(tmp_path_factory.mktemp("pair"))["alpha"]
    set_keys(config, max_upload_bytes=LIMIT_BYTES)
    with Servers([config]) as servers:
        servers.start_all()
        yield servers["alpha"]


def kept_files(server):
    data = server.config.parent / "data"
    folders = (data / "spool", data / "blobs")
    return sorted(p.name for folder in folders for p in folder.rglob("*") if p.is_file())


def answer_to_head_alone(server, client, method, path, *headers):
    """Send a request's head, none of its body; give what the server says to that."""
    host, _, port = server.settings["listen"]["api"].rpartition(":")
    lines = [f"{method} {path} HTTP/1.1", "Host: here", *headers]
    lines.append(f"Authorization: {client.http.headers['authorization']}")
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        said = b""
        with contextlib.suppress(TimeoutError):
            while b"\r\n\r\n" not in said or b"}" not in said:
                part = connection.recv(4096)
                if not part:
                    break
                said += part
    return said.decode()


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
def test_json_is_refused_by_its_declared_length(alpha, method, path):
    said = answer_to_head_alone(
        alpha,
        Client(alpha),
        method,
        path,
        "Content-Type: application/json",
        f"Content-Length: {10 * GIB}",
    )
    assert said.startswith("HTTP/1.1 413 ")
    assert "at most 65536 bytes" in said


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
def test_json_without_a_length_is_cut_at_the_limit(alpha, method, path):
    def endless():
        yield b'{"called_extension": "'
        while True:
            yield b"1" * 4096

    client = Client(alpha)
    sent = 0

    def counted():
        nonlocal sent
        for part in endless():
            sent += len(part)
            assert sent < GIB, "the server reads on for ever"
            yield part
            if sent > 4 << 20:
                return

    headers = {"Content-Type": "application/json"}
    answer = client.http.request(method, path, content=counted(), headers=headers)
    assert answer.status_code == 413
    assert "at most 65536 bytes" in answer.json()["detail"]


def test_a_recording_is_refused_by_its_declared_length_and_nothing_is_kept(alpha):
    switch = Client(alpha)
    place, before = switch.report("1001"), kept_files(alpha)
    said = answer_to_head_alone(
        alpha, switch, "PUT", place, "Content-Type: audio/wav", f"Content-Length: {10 * GIB}"
    )
    assert said.startswith("HTTP/1.1 413 ")
    assert f"takes {LIMIT_BYTES}" in said
    assert kept_files(alpha) == before
    assert switch.record(place).status_code == 201


def test_a_greeting_is_refused_by_its_declared_length(alpha):
    said = answer_to_head_alone(
        alpha,
        Client(alpha),
        "PUT",
        f"/v1/mailboxes/1001/greetings/{GreetingKind.UNAVAILABLE.value}",
        "Content-Type: audio/wav",
        f"Content-Length: {10 * GIB}",
    )
    assert said.startswith("HTTP/1.1 413 ")
    assert "the greeting has" in said


def test_a_recording_without_a_length_is_cut_at_the_limit_and_set_aside(alpha):
    switch = Client(alpha)
    place, before = switch.report("1001"), kept_files(alpha)
    sound = wav(duration_ms=30_000)
    assert len(sound) > LIMIT_BYTES
    parts = (sound[start : start + 8000] for start in range(0, len(sound), 8000))
    answer = switch.http.put(place, content=parts, headers={"Content-Type": "audio/wav"})
    assert answer.status_code == 413
    call_id = place.split("/")[3]
    kept = set(kept_files(alpha)) - set(before)
    assert kept == {f"{call_id}.reason.txt", f"{call_id}.zst"}
    set_aside = alpha.config.parent / "data" / "spool" / "set-aside" / f"{call_id}.zst"
    assert set_aside.stat().st_size < 2 * LIMIT_BYTES


def test_a_body_where_none_is_wanted_is_not_waited_for(alpha):
    said = answer_to_head_alone(
        alpha, Client(alpha), "GET", "/v1/pending", f"Content-Length: {10 * GIB}"
    )
    assert said.startswith("HTTP/1.1 200 ")
