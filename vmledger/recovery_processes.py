"""Processes that bring blobs and commit events while another one reads and judges the next ones.

To open blobs that come over TLS, to hash and to write them is half of what a recovery does, to
commit the events a quarter; in one Python process none of it would run while the rest computes.

Source: claims 5 and 10.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing.util
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeAlias

import msgspec

from ledger.clock import SystemClock
from ledger.configuration import Configuration
from ledger.errors import TransientError
from ledger.events import ServerId
from ledger.migration.blob_fetch import BlobCarrier, Carried, DirectCarrier
from ledger.migration.link import PeerClient
from ledger.migration.log_source import LogSource, LogTarget, PeerSource
from ledger.migration.log_writing import FilledPages, LogWriter, write_pages
from ledger.offload import Offload, Result
from ledger.storage.open_blob_store import open_blob_store
from vmledger.archive_place import shown
from vmledger.copy_source import CopySource, open_again
from vmledger.peer_links import open_link
from vmledger.recovery_folder import RecoveryFolder
from vmledger.recovery_target import open_target

_PROCESSES: Final = 3
"""As many as there is work at a time: two questions for blobs, and one commit."""
_LOOK_FOR_PARENT_S: Final = 0.5
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MALLOC: Final = {_M_TRIM_THRESHOLD: 1 << 30, _M_MMAP_THRESHOLD: 32 << 20}
"""What mallopt(3) is told; 32 MiB is the most that it takes."""


class ServerPlace(NamedTuple):
    """A server of the configuration."""

    server: ServerId


class CopyPlace(NamedTuple):
    """What `open_copy` opened."""

    name: str
    directory: Path


Place: TypeAlias = ServerPlace | CopyPlace
"""Where blobs come from."""


class RecoveryProcesses:
    """Some processes, begun before anything is open that they must not share."""

    def __init__(self, config: Configuration) -> None:
        _keep_freed_memory()
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

    def writer(self) -> LogWriter:
        """Let them commit events to the log of the configuration."""
        return _ProcessWriter(self._pool)

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


def _keep_freed_memory() -> None:
    """Let this process and its children use again what they freed, instead of giving it back.

    For each piece of some megabytes the system would hand out zeroed pages anew, and to touch those
    for the first time took a tenth of a recovery's processor time.
    """
    with suppress(AttributeError):  # not the GNU C library
        c_library = ctypes.CDLL(None)
        for parameter, size_bytes in _MALLOC.items():
            c_library.mallopt(parameter, size_bytes)


class _ProcessCarrier:
    """A `BlobCarrier` that leaves the work to other processes."""

    def __init__(self, pool: ProcessPoolExecutor, place: Place) -> None:
        self._pool = pool
        self._place = place

    async def carry(self, digests: Mapping[str, bool]) -> Carried:
        return await _done(self._pool, _carry, self._place, dict(digests))


class _ProcessWriter:
    """A `LogWriter` that leaves the work to other processes."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    async def write(self, pages: FilledPages) -> None:
        await _done(self._pool, _write, msgspec.msgpack.encode(pages))


async def _done(pool: ProcessPoolExecutor, work: Callable[..., Result], *arguments: Any) -> Result:
    try:
        return await asyncio.wrap_future(pool.submit(work, *arguments))
    except BrokenProcessPool as error:
        raise TransientError(
            "a process of this recovery has ended; look for what the system killed it for "
            "(memory?), and run the same command again"
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
        self.stack = ExitStack()
        self.target: LogTarget | None = None

    def carry(self, place: Place, digests: Mapping[str, bool]) -> Carried:
        if place not in self.carriers:
            store = open_blob_store(self.config.stores.blobs)
            source = self._open(place)
            self.carriers[place] = DirectCarrier(source, self.config.server, store, _InPlace())
        return self.runner.run(self.carriers[place].carry(digests))

    def write(self, pages: FilledPages) -> None:
        if self.target is None:
            folder = RecoveryFolder(self.config.data)
            self.target = self.stack.enter_context(open_target(self.config, folder))
        write_pages(self.target, pages)

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
    multiprocessing.util.Finalize(None, _worker[0].stack.close, exitpriority=1)


def _end_with(parent: int) -> None:
    """End when the parent has: nobody else would tell this process."""
    while os.getppid() == parent:
        time.sleep(_LOOK_FOR_PARENT_S)
    os._exit(1)


def _carry(place: Place, digests: Mapping[str, bool]) -> Carried:
    return _worker[0].carry(place, digests)


def _write(pages: bytes) -> None:
    _worker[0].write(msgspec.msgpack.decode(pages, type=FilledPages))
