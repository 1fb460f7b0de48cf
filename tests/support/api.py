"""A real server in this process, on real stores and a real socket, for tests of its HTTP API."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx

from ledger.configuration import Configuration, load_configuration
from ledger.ids import MailboxAddress
from vmledger.access import Scope
from vmledger.app import Program, compose
from vmledger.cluster import write_cluster
from vmledger.serving import bind, make_server, serve_until_stopped

EXTENSIONS = {"alpha": ["1000-1999"], "bravo": ["2000-2999"]}
"""Alpha is the server under test; bravo is not running."""


def wav(duration_ms: int = 2000, level: int = 64) -> bytes:
    """Make a WAV file of µ-law codes, 8 000 Hz, mono."""
    codes = bytes((index * level) % 256 for index in range(duration_ms * 8))
    form = struct.pack("<HHIIHHH", 7, 1, 8000, 8000, 1, 8, 0)
    fact = struct.pack("<I", len(codes))
    body = b"WAVE" + b"".join(
        name + struct.pack("<I", len(chunk)) + chunk + b"\0" * (len(chunk) % 2)
        for name, chunk in ((b"fmt ", form), (b"fact", fact), (b"data", codes))
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


class Api:
    """A running server and clients for it."""

    def __init__(self, program: Program, url: str) -> None:
        self.program = program
        self.url = url
        self.operator = self.client(Scope.OPERATOR)
        self.switch = self.client(Scope.SWITCH)

    def client(
        self, *scopes: Scope, mailboxes: tuple[str, ...] = (), valid_for: timedelta | None = None
    ) -> httpx.Client:
        """Give a client with a token of its own; without any scope: one without a token."""
        headers = {}
        if scopes:
            token = self.program.tokens.create(
                "-".join(scope.value for scope in scopes),
                scopes,
                mailboxes=[MailboxAddress.parse(mailbox) for mailbox in mailboxes],
                valid_for=valid_for,
            )
            headers["Authorization"] = f"Bearer {token}"
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def report(self, extension: str = "1001", **fields: object) -> httpx.Response:
        """Report a call nobody answered."""
        report = {"called_extension": extension, "status": "no-answer"} | fields
        return self.switch.post("/v1/calls", json=report)

    def leave_message(self, extension: str = "1001", audio: bytes | None = None) -> dict:
        """Leave a message; gives the server's answer."""
        decision = self.report(extension, caller_number="+4930123").json()
        answer = self.switch.put(
            f"/v1/calls/{decision['call_id']}/recording",
            content=audio if audio is not None else wav(),
            headers={"Content-Type": "audio/wav"},
        )
        assert answer.status_code == 201, answer.text
        return answer.json()

    def message_path(self, message: dict) -> str:
        """Give the path of a message."""
        extension = message["mailbox"].partition("@")[0]
        return f"/v1/mailboxes/{extension}/messages/{message['message_id']}"


def make_configuration(
    directory: Path, extensions: dict[str, list[str]] = EXTENSIONS
) -> Configuration:
    """Write two servers and give the first one's configuration."""
    ports = {"alpha": (1, 2), "bravo": (3, 4)}
    files = write_cluster(directory, list(EXTENSIONS), extensions, ports)
    return load_configuration(files[0])


@contextmanager
def running_api(config: Configuration) -> Iterator[Api]:
    """Run the server in a thread of its own until the block ends."""
    ready = threading.Event()
    found: list[tuple[Program, asyncio.AbstractEventLoop, asyncio.Event]] = []
    failures: list[BaseException] = []
    listener = bind(config.api_address._replace(port=0), "listen.api")

    async def main() -> None:
        stop = asyncio.Event()
        async with compose(config) as program:
            found.append((program, asyncio.get_running_loop(), stop))
            ready.set()
            server = make_server(program.api, listener, grace_s=1, doorkeeper=program.doors["api"])
            await serve_until_stopped([server], stop)

    def target() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=target)
    thread.start()
    ready.wait()
    try:
        if failures:
            raise failures[0]
        yield Api(found[0][0], f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        if found:
            found[0][1].call_soon_threadsafe(found[0][2].set)
        thread.join()
        listener.close()
    if failures:
        raise failures[0]


def some_id() -> UUID:
    """Give an id that nothing has."""
    return uuid4()
