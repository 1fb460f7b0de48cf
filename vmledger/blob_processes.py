"""Processes that bring blobs while another one copies the events that name them.

To open what comes over TLS, to hash it and to write it is most of what a recovery does; beside the
events, in one Python process, neither would run while the other computes.

Source: claims 5 and 10.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeAlias

from ledger.clock import SystemClock
from ledger.configuration import Configuration
from ledger.errors import TransientError
from ledger.events import ServerId
from ledger.migration.blob_fetch import BlobCarrier, Carried, DirectCarrier
from ledger.migration.link import PeerClient
from ledger.migration.log_source import LogSource, PeerSource
from ledger.offload import Offload, Result
from ledger.storage.open_blob_store import open_blob_store
from vmledger.archive_place import shown
from vmledger.copy_source import CopySource, open_again
from vmledger.peer_links import open_link

_PROCESSES: Final = 2
_LOOK_FOR_PARENT_S: Final = 0.5


class ServerPlace(NamedTuple):
    """A server of the configuration."""

    server: ServerId


class CopyPlace(NamedTuple):
    """What `open_copy` opened."""

    name: str
    directory: Path


Place: TypeAlias = ServerPlace | CopyPlace
"""Where blobs come from."""


class BlobProcesses:
    """Some processes, begun before anything is open that they must not share."""

    def __init__(self, config: Configuration) -> None:
        self._pool = ProcessPoolExecutor(
            _PROCESSES,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_begin,
            initargs=(config, os.getpid()),
        )
        self._pool.submit(os.getpid).result()  # with the first work all of them begin

    def carrier(self, place: Place) -> BlobCarrier:
        """Let them bring blobs from there into the stores of the configuration."""
        return _ProcessCarrier(self._pool, place)

    def close(self) -> None:
        """End them, after what they are doing."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _ProcessCarrier:
    """A `BlobCarrier` that leaves the work to other processes."""

    def __init__(self, pool: ProcessPoolExecutor, place: Place) -> None:
        self._pool = pool
        self._place = place

    async def carry(self, digests: Mapping[str, bool]) -> Carried:
        try:
            done: Future[Carried] = self._pool.submit(_carry, self._place, dict(digests))
            return await asyncio.wrap_future(done)
        except BrokenProcessPool as error:
            raise TransientError(
                "a process that copied recordings has ended; look for what the system killed it "
                "for (memory?), and run the same command again"
            ) from error


# --- In such a process --------------------------------------------------------------------------


class _InPlace:
    """An `Offload` for a process that does one thing at a time."""

    async def __call__(self, work: Callable[[], Result]) -> Result:
        return work()


class _Worker:
    def __init__(self, config: Configuration) -> None:
        self.config = config
        self.runner = asyncio.Runner()
        self.carriers: dict[Place, DirectCarrier] = {}

    def carry(self, place: Place, digests: Mapping[str, bool]) -> Carried:
        if place not in self.carriers:
            store = open_blob_store(self.config.stores.blobs)
            source = self._open(place)
            self.carriers[place] = DirectCarrier(source, self.config.server, store, _InPlace())
        return self.runner.run(self.carriers[place].carry(digests))

    def _open(self, place: Place) -> LogSource:
        offload: Offload = _InPlace()
        if isinstance(place, CopyPlace):
            copy = open_again(place.name, place.directory)
            return CopySource(shown(place.name), copy, self.config.directory.servers, offload)
        peer = next(peer for peer in self.config.directory.peers if peer.id == place.server)
        link = open_link(self.config, peer, SystemClock(), offload)
        return PeerSource(PeerClient(link), offload)


_worker: list[_Worker] = []


def _begin(config: Configuration, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process when it is done
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker.append(_Worker(config))


def _end_with(parent: int) -> None:
    """End when the parent has: nobody else would tell this process."""
    while os.getppid() == parent:
        time.sleep(_LOOK_FOR_PARENT_S)
    os._exit(1)


def _carry(place: Place, digests: Mapping[str, bool]) -> Carried:
    return _worker[0].carry(place, digests)
