"""Run HTTP servers side by side in one event loop, from bound sockets to a graceful end.

Sockets are bound before anything else starts, so that a port in use is one clear sentence and not
a server that half runs. At the end the servers stop taking requests first, and what they are in
the middle of may finish within the grace period; only then do the parts behind them go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import uvicorn

from ledger.configuration import Address
from ledger.errors import CallerError
from vmledger.connections import Doorkeeper
from vmledger.serving_protocol import WatchedConnection

_LOG: Final = logging.getLogger(__name__)
_BACKLOG: Final = 2048
_KEEP_ALIVE_S: Final = 75
"""How long an idle connection stays open: a switch comes back for the next call."""
_TICKS_A_SWEEP: Final = 10
"""The server's main loop ticks ten times a second."""
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """A server that leaves the process's signals alone: they end all servers together."""

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, doorkeeper: Doorkeeper
    ) -> None:
        super().__init__(config)
        self.listener = listener
        self._doorkeeper = doorkeeper

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_SWEEP == 0:
            self._doorkeeper.sweep(time.monotonic())
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(address: Address, key: str) -> socket.socket:
    """Listen at an address; raises CallerError naming the configuration's key when that fails."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server(
            (address.host, address.port), family=family, backlog=_BACKLOG, reuse_port=False
        )
    except OSError as error:
        raise CallerError(
            f"cannot listen at {address} ({os.strerror(error.errno or 0)}); "
            f"stop what uses it or change {key}"
        ) from error


def allow_many_files() -> None:
    """Let this process open as many files and sockets as the system lets it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def make_server(
    app: Any,
    listener: socket.socket,
    *,
    grace_s: float,
    doorkeeper: Doorkeeper,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Make a server for an ASGI application on a bound socket, with somebody at its door."""
    protocol: Any = partial(WatchedConnection, doorkeeper=doorkeeper)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(grace_s)),
        ssl_context_factory=(lambda *_: tls) if tls is not None else None,
    )
    return Server(config, listener, doorkeeper)


async def serve_until_stopped(servers: Sequence[Server], stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set or a server ends by itself, then end all of them gracefully."""
    tasks = [asyncio.create_task(server.serve([server.listener])) for server in servers]
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)


def tell_lost_connections_shortly() -> None:
    """Let a connection that broke where nobody waits for it be a line of the log, and no trace.

    As in a TLS handshake that the other end left: whoever uses connections learns it elsewhere.
    Must be called inside the running loop.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, ConnectionError | ssl.SSLError):
            _LOG.info("action=connection-lost error=%r", error)
        else:
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(handle)


@contextlib.contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set ``stop``; must be entered inside the running loop."""
    loop = asyncio.get_running_loop()

    def handle(number: signal.Signals) -> None:
        _LOG.info("action=stopping signal=%s", number.name)
        stop.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
