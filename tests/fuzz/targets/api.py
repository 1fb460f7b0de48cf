"""The HTTP API of a whole server on real stores, asked in this process.

An input is a JSON list of requests, carried out in order. In their parts ``$call`` and ``$message``
stand for what the server answered last, and the body ``"$wav"`` for a recording. Requests are given
to the program as its HTTP server would give them: methods it knows, paths and headers of the
characters that may stand there. Each is answered completely and once; an error is a problem detail
that says what to do; and none is a mistake of the program's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.fuzz.documents import read_list
from tests.fuzz.loops import Unexpected, run_in_loop
from tests.fuzz.target import Target
from tests.support.api import make_configuration, wav
from vmledger.access import Scope
from vmledger.app import compose
from vmledger.http.problems import PROBLEM_MEDIA_TYPE

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
WAV = wav(1100)
FAILURES = Unexpected("vmledger.http.problems", "request-failed")
_MOST_REQUESTS = 8
_RUNS_OF_A_SERVER = 500
"""Then another one starts from nothing, so that logs and mailboxes do not grow without end."""
_IN_TARGETS = re.compile(r"[^!-~]")
_IN_NAMES = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]")
_IN_VALUES = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")


class _Server:
    """A server on a directory of its own, and what it said last."""

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self.runs = 0

    async def start(self) -> None:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vmledger-fuzz-"))
        config = make_configuration(Path(directory))
        self.program = await self._stack.enter_async_context(compose(config))
        self.tokens = {
            scope.value: self.program.tokens.create(scope.value, [scope])
            for scope in (Scope.OPERATOR, Scope.SWITCH, Scope.READER)
        }
        self.last = {"call": "", "message": ""}

    async def stop(self) -> None:
        await self._stack.aclose()


_servers: list[_Server] = []


def _server() -> _Server:
    if _servers and _servers[0].runs >= _RUNS_OF_A_SERVER:
        close()
    if not _servers:
        server = _Server()
        run_in_loop(server.start())
        _servers.append(server)
    _servers[0].runs += 1
    return _servers[0]


def close() -> None:
    """End the server; the next run starts another one."""
    while _servers:
        run_in_loop(_servers.pop().stop())


# --- What is asked --------------------------------------------------------------------------------


def seeds() -> list[bytes]:
    def ask(method: str, path: str, query: str = "", **others: Any) -> dict[str, Any]:
        return {"method": method, "path": path, "query": query} | others

    report = ask(
        *("POST", "/v1/calls"),
        body={"called_extension": "1001", "status": "no-answer", "caller_number": "+4930123"},
    )
    typed = {"content-type": "audio/wav"}
    record = ask("PUT", "/v1/calls/$call/recording", headers=typed, body="$wav")
    mailbox, message = "/v1/mailboxes/1001", "/v1/mailboxes/1001/messages/$message"
    ranged = {"accept": "audio/mpeg, */*;q=0.1", "range": "bytes=0-99", "if-range": '"x"'}
    scripts = [
        [report, record, ask("GET", message), ask("GET", f"{message}/audio", headers=ranged)],
        [report, record, ask("PATCH", message, body={"status": "saved"}), ask("DELETE", message)],
        [report, record, ask("GET", f"{message}/peaks", "buckets=50")],
        [ask("GET", mailbox, "at=2026-03-01T00:00:00Z&limit=5"), ask("GET", mailbox, "position=1")],
        [report, ask("DELETE", "/v1/calls/$call", "reason=hung-up")],
        [
            ask("GET", "/v1/calls", "extension=1001&limit=3"),
            ask("GET", "/v1/log", "from=1&limit=9"),
        ],
        [report, record, ask("GET", "/v1/messages/$message"), ask("GET", "/v1/log/proof/$message")],
        [
            ask("PUT", f"{mailbox}/greetings/busy", headers=typed, body="$wav"),
            ask("GET", f"{mailbox}/greetings/busy", headers={"accept": "audio/wav"}),
            ask("GET", f"{mailbox}/profile", "context=default"),
            ask("DELETE", f"{mailbox}/greetings/busy"),
        ],
        [ask("PUT", f"{mailbox}/pin", body={"pin": "2580"}), ask("DELETE", f"{mailbox}/pin")],
        [report, ask("POST", "/v1/log/backups", body={"position": 1, "place": "tape 7"})],
        [ask("GET", "/v1/log/tlog/checkpoint"), ask("GET", "/v1/log/checkpoint")],
        [ask("GET", path) for path in ("/v1/pending", "/v1/servers", "/v1/projections")],
        [ask("GET", "/metrics"), ask("GET", "/healthz"), ask("GET", "/openapi.json")],
    ]
    return [json.dumps(script).encode() for script in scripts]


def run(data: bytes) -> bool:
    script = read_list(data)
    if script is None:
        return False
    requests = [request for request in script[:_MOST_REQUESTS] if isinstance(request, dict)]
    statuses = run_in_loop(_ask_all(_server(), requests))
    FAILURES.raise_any()
    return bool(statuses) and max(statuses) < 400


async def _ask_all(server: _Server, requests: list[dict[str, Any]]) -> list[int]:
    return [await _ask(server, request) for request in requests]


async def _ask(server: _Server, request: dict[str, Any]) -> int:
    scope, body = _scope(server, request)
    sent: list[Any] = []
    pieces = [
        {"type": "http.request", "body": body[:9], "more_body": True},
        {"type": "http.request", "body": body[9:], "more_body": False},
    ]

    async def receive() -> Any:
        return pieces.pop(0) if pieces else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(30):
        await server.program.api(scope, receive, send)
    status, headers, answer = _answer(sent)
    _check_answer(scope["method"], status, headers, answer)
    _note(server, status, headers, answer)
    return status


def _scope(server: _Server, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Give a request as the HTTP server hands it over."""

    def text(name: str, default: str) -> str:
        given = str(request.get(name, default))
        return given.replace("$call", server.last["call"]).replace(
            "$message", server.last["message"]
        )

    method, raw_path = (
        text("method", "GET"),
        _IN_TARGETS.sub("-", "/" + text("path", "").lstrip("/")),
    )
    raw_path, query = raw_path.partition("?")[0], _IN_TARGETS.sub("-", text("query", ""))
    body = _body(request.get("body", ""))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method if method in METHODS else "GET",
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": _headers(server, request, len(body)),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8025),
    }
    return scope, body


def _body(given: Any) -> bytes:
    if given == "$wav":
        return WAV
    return (
        given.encode("latin-1", "replace") if isinstance(given, str) else json.dumps(given).encode()
    )


def _headers(server: _Server, request: dict[str, Any], length: int) -> list[tuple[bytes, bytes]]:
    given = request.get("headers")
    named = (
        {str(name).lower(): str(value) for name, value in given.items()}
        if isinstance(given, dict)
        else {}
    )
    token = server.tokens.get(str(request.get("as", "operator")), "")
    named = {"authorization": f"Bearer {token}", "content-length": str(length)} | named
    return [
        (_IN_NAMES.sub("-", name).encode(), _IN_VALUES.sub("-", value).encode("latin-1"))
        for name, value in named.items()
    ]


# --- What is answered -----------------------------------------------------------------------------


def _answer(sent: list[Any]) -> tuple[int, dict[str, str], bytes]:
    assert [message["type"] for message in sent[:1]] == ["http.response.start"]
    assert {message["type"] for message in sent[1:]} == {"http.response.body"}
    assert not sent[-1].get("more_body", False)
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


def _check_answer(method: str, status: int, headers: dict[str, str], answer: bytes) -> None:
    assert 200 <= status < 600
    if "content-length" in headers and method != "HEAD":
        assert int(headers["content-length"]) == len(answer)
    if status >= 400 and method != "HEAD":
        assert headers["content-type"].startswith(PROBLEM_MEDIA_TYPE)
        problem = json.loads(answer)
        assert (problem["status"], problem["code"] != "internal-error") == (status, True)
        assert problem["detail"]
        assert problem["request_id"]


def _note(server: _Server, status: int, headers: dict[str, str], answer: bytes) -> None:
    """Keep the ids that later requests may name."""
    if status in {200, 201} and headers.get("content-type", "").startswith("application/json"):
        told = json.loads(answer)
        if isinstance(told, dict):
            for name in server.last:
                server.last[name] = str(told.get(f"{name}_id", server.last[name]))


TARGET = Target(
    run,
    seeds,
    is_document=True,
    words=(
        *("$call", "$message", "$wav", "/v1/", "%2F", "%00", "%FF", "context=", "before=", "at="),
        *("limit=", "bytes=", "application/json", "audio/PCMU;rate=8000", "x-request-id", "true"),
    ),
    close=close,
)
