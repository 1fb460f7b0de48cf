"""How much a home takes on at a time: the rest is asked to come back later.

When a home returns after an outage every origin has a backlog for it. A few batches at a time keep
memory and disk calm; whoever is turned away gets a pause of random length, so that they do not all
come back together.

Source: claim 7.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ledger.errors import TransientError
from ledger.events import ServerId

MAX_BYTES: Final = 64 * 1024 * 1024
"""Of all batches together; a larger one is let in when it is alone."""
_PAUSE_S: Final = (0.2, 2.0)


class Admission:
    """Counts batches and their bytes. For one event loop."""

    def __init__(self, max_batches: int, rng: random.Random, *, max_bytes: int = MAX_BYTES) -> None:
        """Let ``max_batches`` in at a time, of one origin at most half of them."""
        self._max_batches = max_batches
        self._max_per_origin = max(1, max_batches // 2)
        self._max_bytes = max_bytes
        self._rng = rng
        self._inside: Counter[ServerId] = Counter()
        self._bytes = 0

    @contextmanager
    def enter(self, origin: ServerId, size_bytes: int) -> Iterator[None]:
        """Hold a place; raises TransientError with a random pause when there is none."""
        if not self._has_room(origin, size_bytes):
            pause_s = self._rng.uniform(*_PAUSE_S)
            raise TransientError("this server takes in enough batches now", retry_after_s=pause_s)
        self._inside[origin] += 1
        self._bytes += size_bytes
        try:
            yield
        finally:
            self._inside[origin] -= 1
            self._bytes -= size_bytes

    def _has_room(self, origin: ServerId, size_bytes: int) -> bool:
        count = self._inside.total()
        if count >= self._max_batches or self._inside[origin] >= self._max_per_origin:
            return False
        return count == 0 or self._bytes + size_bytes <= self._max_bytes
