"""uvicorn's HTTP/1.1 connection, reporting to a doorkeeper what happens on it.

Source: RFC 9112 section 9 (connection management).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from vmledger.connections import Doorkeeper, Guest, Reading, Shed

MOST_HEAD_BYTES: Final = 64 * 1024
"""Of a request's head: ours are a few hundred bytes."""

_LAST_WORDS: Final = {
    Shed.SLOW_HEAD: b"HTTP/1.1 408 Request Timeout\r\n",
    Shed.SLOW_BODY: b"HTTP/1.1 408 Request Timeout\r\n",
    Shed.LARGE_HEAD: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
}
"""What a client is told that waits for an answer to a request that was never whole."""


class WatchedConnection(HttpToolsProtocol):
    """One connection of a listener that has a doorkeeper."""

    def __init__(self, *arguments: Any, doorkeeper: Doorkeeper, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._doorkeeper = doorkeeper
        self._head_bytes = 0
        now_s = time.monotonic()
        self.guest = Guest(
            "", self._end, since_s=now_s, heard_s=now_s, is_held_back=self._is_held_back
        )

    # --- what the transport tells -----------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.guest.address = self.client[0] if self.client else ""
        self._doorkeeper.admit(self.guest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._doorkeeper.leave(self.guest)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        guest = self.guest
        guest.heard_s = time.monotonic()
        if guest.reading is Reading.NOTHING:
            self._begin(Reading.HEAD)
        super().data_received(data)
        if guest.reading is Reading.HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._doorkeeper.on_shed(Shed.LARGE_HEAD)
                self._end(Shed.LARGE_HEAD)

    def pause_writing(self) -> None:
        self.guest.stuck_since_s = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.guest.stuck_since_s = None
        super().resume_writing()

    # --- what the parser tells --------------------------------------------------------------

    def on_headers_complete(self) -> None:
        self._begin(Reading.BODY)
        self.guest.is_answering = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.guest.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.guest.reading = Reading.NOTHING
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.guest.is_answering = bool(self.pipeline)
        self.guest.answered_s = time.monotonic()
        super().on_response_complete()

    def _is_held_back(self) -> bool:
        cycle = self._request()
        is_unasked = cycle is not None and cycle.waiting_for_100_continue
        return self.flow.read_paused or is_unasked

    def _request(self) -> RequestResponseCycle | None:
        return self.cycle  # None before the first one, whatever its type says

    def _begin(self, reading: Reading) -> None:
        self.guest.reading = reading
        self.guest.since_s = self.guest.heard_s = time.monotonic()
        self.guest.body_bytes = self._head_bytes = 0

    def _end(self, why: Shed) -> None:
        words = _LAST_WORDS.get(why)
        cycle = self._request()
        is_in_answer = cycle and cycle.response_started and not cycle.response_complete
        if words is None or is_in_answer:
            self.transport.abort()
            return
        self.transport.write(words + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
