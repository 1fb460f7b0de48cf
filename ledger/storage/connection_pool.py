"""Connections that reading threads borrow: a bounded number, and a close that waits for them.

Who finds all of them borrowed waits a little for one, and is then told to come back.

Closing a SQLite connection under a thread that reads from it crashes the process; so `close` first
waits until every borrowed connection is back, and nobody can borrow one after it.

Source: claim 10.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from ledger.errors import TransientError


class Closable(Protocol):
    """What a pool can hold."""

    def close(self) -> Any:
        """Release it."""


Connection = TypeVar("Connection", bound=Closable)


class ConnectionPool(Generic[Connection]):
    """Opens connections as they are asked for and keeps a few for the next."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        is_usable: Callable[[Connection], bool] = lambda _: True,
        spare: int = 8,
        most: int = 16,
        wait_s: float = 5.0,
    ) -> None:
        """Keep up to ``spare`` open for the next; never lend more than ``most`` at a time."""
        self._connect = connect
        self._is_usable = is_usable
        self._spare = spare
        self._most = most
        self._wait_s = wait_s
        self._idle: list[Connection] = []
        self._borrowed = 0
        self._is_closed = False
        self._changed = threading.Condition()

    @contextmanager
    def borrow(self) -> Iterator[Connection]:
        """Lend a connection.

        Raises TransientError after `close`, and when all are lent and none comes back in time.
        """
        connection = self._take()
        try:
            connection = connection or self._connect()
            yield connection
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Wait for what is borrowed, then close everything. Again is fine."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: self._borrowed == 0)
            while self._idle:
                self._idle.pop().close()

    def drop_idle(self) -> None:
        """Close what nobody uses now: somebody else needs the place."""
        with self._changed:
            while self._idle:
                self._idle.pop().close()

    @property
    def most(self) -> int:
        """How many are lent at a time at most."""
        return self._most

    @property
    def borrowed(self) -> int:
        """How many are lent now."""
        return self._borrowed

    def _take(self) -> Connection | None:
        with self._changed:
            in_time = self._changed.wait_for(
                lambda: self._is_closed or self._borrowed < self._most, self._wait_s
            )
            if not in_time:
                raise TransientError(f"all {self._most} connections for reading the log are in use")
            if self._is_closed:
                raise TransientError("the log is being closed; try again when the server is up")
            self._borrowed += 1
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Connection | None) -> None:
        with self._changed:
            self._borrowed -= 1
            if connection is not None:
                if self._is_usable(connection) and len(self._idle) < self._spare:
                    self._idle.append(connection)
                else:
                    connection.close()
            self._changed.notify_all()
