"""The network between simulated servers: it delays, loses, repeats, reorders and damages.

A request is the real bytes of the protocol. It may arrive without its answer coming back, arrive
twice, or arrive long after its sender gave up. What happens to each is drawn from a seed.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.errors import TransientError
from ledger.migration.link import Route

if TYPE_CHECKING:
    from tests.simulation.server import Process
    from tests.simulation.world import World

TIMEOUT_S = 6.0
"""How long a sender waits for an answer."""


_COPYING = frozenset({Route.LOG_STATE, Route.LOG_PAGE, Route.BLOBS})
"""What mirrors ask every second is not counted: it never ends."""


@dataclass
class Weather:
    """How likely each misfortune is, for every request."""

    lose: float = 0.0
    lose_answer: float = 0.0
    repeat: float = 0.0
    damage: float = 0.0
    delay: float = 0.0
    """Takes seconds instead of milliseconds."""
    stale: float = 0.0
    """A batch does not arrive, and what was answered to an earlier one comes back."""


class Network:
    """Carries requests between the processes of a world."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self.weather = Weather()
        self.cuts: Counter[tuple[str, str]] = Counter()
        """Ways (from, to) on which nothing arrives; a way may be cut by several faults."""
        self.slow: Counter[str] = Counter()
        """Servers that take requests and are too slow to answer in time."""
        self.sent = 0
        self._batches: dict[tuple[str, str], list[bytes]] = {}
        """Those that one server sent another, for echoes."""
        self._answers: dict[tuple[str, str], bytes] = {}
        """What the last of those was answered."""
        self.trace = 0
        self.say: Callable[[str], None] | None = None

    def note(self, *what: object) -> None:
        """Make something part of the trace that two runs of a seed must share."""
        line = f"{self._world.now_s:9.3f} {what}"
        self.trace = zlib.crc32(line.encode(), self.trace)
        if self.say is not None:
            self.say(line)

    async def exchange(self, sender: Process, peer: str, route: Route, body: bytes) -> bytes:
        """Carry a request there and its answer back; TransientError when no answer came."""
        if route not in _COPYING:
            self.sent += 1
        self.note(sender.name, peer, route.value, zlib.crc32(body))
        if route is Route.BATCH:
            self._batches.setdefault((sender.machine.id, peer), []).append(body)
        draw = self._rng.random
        weather = self.weather
        here = sender.machine.id
        await self._travel()
        if self.cuts[here, peer] or draw() < weather.lose:
            raise await self._silence()
        home = self._world.listener(peer)
        if home is None:
            raise TransientError(f"{peer} refuses the connection")
        earlier = self._answers.get((here, peer)) if route is Route.BATCH else None
        if weather.stale and earlier is not None and draw() < weather.stale:
            return earlier
        if draw() < weather.repeat:
            self._repeat_later(sender, peer, route, body)
        answer = await self._answer(home, here, route, self._spoil(body))
        await self._travel()
        if self.cuts[peer, here] or draw() < weather.lose_answer:
            raise await self._silence()
        return self._spoil(answer)

    async def probe(self, sender: Process, peer: str) -> None:
        """Find out whether the peer is there."""
        self.sent += 1
        here = sender.machine.id
        await self._travel()
        if self.cuts[here, peer] or self.cuts[peer, here]:
            raise await self._silence()
        if self._world.listener(peer) is None:
            raise TransientError(f"{peer} refuses the connection")

    async def _travel(self) -> None:
        is_late = self._rng.random() < self.weather.delay
        await asyncio.sleep(self._rng.uniform(0.5, 5.0) if is_late else self._rng.random() * 0.02)

    async def _silence(self) -> TransientError:
        await asyncio.sleep(TIMEOUT_S)
        return TransientError("no answer in time")

    async def _answer(self, home: Process, sender: str, route: Route, body: bytes) -> bytes:
        if self.slow[home.machine.id]:
            await asyncio.sleep(self._rng.uniform(0.5, TIMEOUT_S))
        task = home.spawn(home.handle(sender, route, body))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer: bytes = await home.outcome(task)
        except TimeoutError:
            raise TransientError("no answer in time") from None
        if route is Route.BATCH:
            self._world.gives_word(home, answer)
            self._answers[sender, home.machine.id] = answer
        return answer

    def _repeat_later(self, sender: Process, peer: str, route: Route, body: bytes) -> None:
        """The same request arrives once more, perhaps after its sender made a new contact."""
        here = sender.machine.id

        async def arrive() -> None:
            await asyncio.sleep(self._rng.choice((0.0, 0.05, 2.0, 20.0)) * self._rng.random())
            home = self._world.listener(peer)
            if home is not None and not self.cuts[here, peer]:
                home.spawn(home.handle(here, route, body))

        self._world.spawn(arrive())

    async def echo(self, origin: str, home: str, which: float, count: int) -> None:
        """Let some of the batches of one server for another arrive once more, in their order."""
        self._world.told.echoed.add((origin, home))
        batches = self._batches.get((origin, home), [])
        first = int(which * len(batches))
        for body in batches[first : first + count]:
            process = self._world.listener(home)
            if process is not None:
                self.note("echo", origin, home, zlib.crc32(body))
                process.spawn(process.handle(origin, Route.BATCH, body))
            await asyncio.sleep(0.01)

    def _spoil(self, body: bytes) -> bytes:
        if not body or self._rng.random() >= self.weather.damage:
            return body
        if self._rng.random() < 0.3:
            return body[: self._rng.randrange(len(body))]
        spoiled = bytearray(body)
        spoiled[self._rng.randrange(len(body))] ^= 1 << self._rng.randrange(8)
        return bytes(spoiled)


class SimulatedLink:
    """The way from one process to one peer."""

    def __init__(self, sender: Process, peer: str, network: Network) -> None:
        self.peer = peer
        self._sender = sender
        self._network = network

    async def exchange(self, route: Route, body: bytes) -> bytes:
        return await self._sender.port(self._network.exchange(self._sender, self.peer, route, body))

    async def probe(self) -> None:
        await self._sender.port(self._network.probe(self._sender, self.peer))

    async def close(self) -> None:
        pass
