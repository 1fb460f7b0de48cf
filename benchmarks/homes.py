"""Many homes in one process, each with its own listener, keys and store, some of them ill.

The product's own receiver behind the product's own listener on a real socket with mutual TLS;
only the stores are in memory, so that fifty of them do not measure one disk. ``python -m
benchmarks.homes CONFIG...`` serves one home for each configuration file and prints ``serving``.
Each line on standard input is a home's name and what is the matter with it: ``home-07 slow``.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import uvloop

from ledger.clock import SystemClock
from ledger.configuration import Configuration, load_configuration
from ledger.identity import load_identity
from ledger.migration.home import Receiver
from ledger.migration.http_receiver import ReplicationApp
from ledger.migration.known_homes import load_homes
from ledger.migration.tls import server_context
from ledger.migration.witness import Witness
from ledger.offload import ThreadOffload
from ledger.sealing import load_master_key
from ledger.storage.cosigned_checkpoints import MemoryCosignedCheckpoints
from ledger.storage.disk_room import DiskRoom
from ledger.storage.group_commit import EventLog
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.memory_blobs import MemoryBlobStore
from ledger.storage.server_stream import ServerStream
from ledger.storage.vault import Vault
from vmledger.connections import Doorkeeper, DoorLimits
from vmledger.serving import Server, allow_many_files, bind, make_server, serve_until_stopped

WELL: Final = "well"
SLOW: Final = "slow"
"""Answers, but some seconds late."""
DEAF: Final = "deaf"
"""Takes every request and never answers."""
FAILING: Final = "failing"
"""Answers every request with an error."""
SLOW_S: Final = 3.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Home:
    """One home and what is the matter with it."""

    def __init__(self, config: Configuration, number: int, offload: ThreadOffload) -> None:
        self.name = config.server
        self.illness = WELL
        clock = SystemClock()
        recorder = MemoryLogRecorder(UUID(int=number + 1))
        identity = load_identity(config.server, config.identity.signing_key)
        log = EventLog(recorder, offload)
        receiver = Receiver(
            identity=identity,
            homes=load_homes(recorder, config.directory),
            log=log,
            blobs=MemoryBlobStore(),
            vault=Vault(recorder, load_master_key(config.identity.master_key), os.urandom),
            clock=clock,
            offload=offload,
            rng=random.Random(number),
            limits=config.limits,
            witness=Witness(
                identity=identity,
                directory=config.directory,
                store=MemoryCosignedCheckpoints(),
                server_stream=ServerStream(config.server, log, clock),
                clock=clock,
                offload=offload,
            ),
        )
        self._app = ReplicationApp(
            receiver,
            directory=config.directory,
            clock=clock,
            offload=offload,
            body_timeout_s=config.replication.request_timeout_s,
            room=DiskRoom([config.data], config.limits),
        )
        self.server: Server = make_server(
            self,
            bind(config.replication_address, "listen.replication"),
            grace_s=1,
            doorkeeper=Doorkeeper(DoorLimits(most=100, head_timeout_s=60, body_timeout_s=60)),
            tls=server_context(config),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request as a home that is in this state does."""
        if self.illness == DEAF:
            await asyncio.Event().wait()
        if self.illness == FAILING:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"something is broken here"})
            return
        if self.illness == SLOW:
            await asyncio.sleep(SLOW_S)
        await self._app(scope, receive, send)


async def serve(configs: Sequence[Configuration]) -> None:
    allow_many_files()
    offload = ThreadOffload(4)
    homes = {c.server: Home(c, number, offload) for number, c in enumerate(configs)}
    ended = asyncio.Event()

    def listen() -> None:
        # All that there is: lines in a buffer of Python's own would wake nobody.
        said = os.read(sys.stdin.fileno(), 65_536)
        if not said:
            ended.set()
        for line in said.decode().splitlines():
            name, homes[name].illness = line.split()

    asyncio.get_running_loop().add_reader(sys.stdin, listen)
    print("serving", flush=True)
    await serve_until_stopped([home.server for home in homes.values()], ended)


if __name__ == "__main__":
    uvloop.run(serve([load_configuration(Path(file)) for file in sys.argv[1:]]))
