"""A TCP proxy on a way between two programs, which cuts, stalls, truncates and spoils at will.

All ways share one thread. TLS runs through unread: what the proxy spoils is the cipher text, as a
broken line does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from typing import Any, Self


class Way:
    """One way: a port of ours, and the port behind it."""

    def __init__(self, name: str, target: int, rng: random.Random) -> None:
        self.name = name
        self.port = 0
        self.is_cut = False
        self.is_stalled = False
        self.truncate = 0
        """So many pieces are cut short, and their connections ended."""
        self.corruption = 0.0
        """Probability that a bit of a piece flips."""
        self.delay_s = 0.0
        self.suffered = 0
        """Pieces and connections that were harmed."""
        self._target = target
        self._rng = rng
        self._open: set[asyncio.StreamWriter] = set()

    def heal(self) -> None:
        self.is_cut = self.is_stalled = False
        self.truncate, self.corruption, self.delay_s = 0, 0.0, 0.0

    async def listen(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    def break_connections(self) -> None:
        """End all connections at once, as a router does that forgets them."""
        for writer in list(self._open):
            self.suffered += 1
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # at the end of the run
            await self._connect(reader, writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            self.suffered += 1
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._open |= ends
        both = [
            asyncio.create_task(self._pump(reader, far_writer)),
            asyncio.create_task(self._pump(far_reader, writer)),
        ]
        try:
            for ended in asyncio.as_completed(both):
                if not await ended:
                    break
            await asyncio.sleep(0.05)  # what was written still leaves
        finally:
            for task in both:
                task.cancel()
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass bytes in one direction to their end; False when the connection is to be broken."""
        try:
            while data := await reader.read(65536):
                data, is_last = await self._suffer(data)
                writer.write(data)
                await writer.drain()
                if is_last:
                    return False
            writer.write_eof()
        except OSError:
            return False
        return True

    async def _suffer(self, data: bytes) -> tuple[bytes, bool]:
        """Do to a piece what this way does now; also says whether it is the connection's last."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s * self._rng.random())
        while self.is_stalled and not self.is_cut:  # noqa: ASYNC110  (set by another thread)
            await asyncio.sleep(0.05)
        if self.is_cut:
            return b"", True
        if self.truncate > 0 and self._rng.random() < 0.3:
            self.truncate -= 1
            self.suffered += 1
            return data[: self._rng.randrange(len(data))], True
        if self._rng.random() < self.corruption:
            self.suffered += 1
            spoiled = bytearray(data)
            spoiled[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
            return bytes(spoiled), False
        return data, False


class Network:
    """All ways, and the thread that serves them. A context manager."""

    def __init__(self, seed: int) -> None:
        self.ways: dict[str, Way] = {}
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def add(self, name: str, target: int) -> Way:
        """Open a way to a port on loopback."""
        way = Way(name, target, random.Random(f"{self._seed}/{name}"))
        self._call(way.listen())
        self.ways[name] = way
        return way

    def do(self, work: Callable[[], None]) -> None:
        """Do something in the thread of the ways."""
        self._loop.call_soon_threadsafe(work)

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
