"""Identifiers: UUIDv7 for calls and incarnations, name-based ids for messages and streams.

Nothing here draws randomness or reads a clock: both come in as arguments, so that a simulation
owns them. `new_id_factory` is the one place where the two are joined.

Source: claim 14 (common functions); RFC 9562 section 5.7 (UUIDv7) and 5.5 (name-based ids).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Final, TypeAlias
from uuid import UUID, uuid5

import msgspec

from ledger.errors import CallerError

IdFactory: TypeAlias = Callable[[], UUID]
"""Makes a fresh UUIDv7 at every call."""

RandomBytes: TypeAlias = Callable[[int], bytes]
"""Gives that many random bytes (`os.urandom`, or a seeded generator)."""

LEDGER_NAMESPACE: Final = UUID("6e0b3d4e-54f4-5d0e-9c1b-7a1d3f9e2c55")
"""Namespace of the name-based ids below. Never change it: stored events depend on it."""

MAX_NAME_LENGTH: Final = 100
"""Of an extension or a context in a request: what is longer nobody can ask for."""

MAX_ASKED_POSITION: Final = 2**62
"""No position is larger, and every database can compare it, and a page behind it."""

_RANDOM_BITS: Final = (1 << 74) - 1


class MailboxAddress(msgspec.Struct, frozen=True, order=True):
    """A mailbox by its name: an extension within a context (a tenant's dial plan)."""

    extension: str
    context: str = "default"

    def __str__(self) -> str:
        return f"{self.extension}@{self.context}"

    @property
    def is_name(self) -> bool:
        """Can a mailbox be called so? What a switch reports as called may be anything."""
        if max(len(self.extension), len(self.context)) > MAX_NAME_LENGTH:
            return False
        try:
            return MailboxAddress.parse(str(self)) == self
        except CallerError:
            return False

    @classmethod
    def parse(cls, text: str) -> MailboxAddress:
        """Read ``extension`` or ``extension@context``; raises CallerError on anything else."""
        extension, at, context = text.partition("@")
        if not extension or (at and not context) or "@" in context or text != text.strip():
            raise CallerError(
                f"mailbox {text!r} is not 'extension' or 'extension@context'; "
                "write it like 2001 or 2001@default"
            )
        return cls(extension, context or "default")


def uuid7(time_ms: int, random_10_bytes: bytes) -> UUID:
    """Build the UUIDv7 of this moment (milliseconds since 1970) from ten random bytes."""
    random_bits = int.from_bytes(random_10_bytes, "big") & _RANDOM_BITS
    rand_a, rand_b = random_bits >> 62, random_bits & ((1 << 62) - 1)
    return UUID(int=(time_ms & ((1 << 48) - 1)) << 80 | 7 << 76 | rand_a << 64 | 2 << 62 | rand_b)


def new_id_factory(now: Callable[[], datetime], random_bytes: RandomBytes) -> IdFactory:
    """Join a clock and a source of randomness into a maker of UUIDv7."""
    return lambda: uuid7(int(now().timestamp() * 1000), random_bytes(10))


@lru_cache(maxsize=4096)
def _named(name: str) -> UUID:
    """Give the UUIDv5 of a name; the same few are asked for again and again."""
    return uuid5(LEDGER_NAMESPACE, name)


def message_id_of(server: str, call_id: UUID, received_digest: str) -> UUID:
    """Give the id of the message that a server makes of a call's recording.

    Always the same for the same sound of the same call. A server that was restored from a backup
    has forgotten what it stored; when the switch then repeats its upload, the message gets the id
    under which its home may have it already. ``received_digest`` is that of the received bytes:
    those of the stored form tell when it was stored.
    """
    return _named(f"recording:{server}:{call_id}:{received_digest}")


def mailbox_stream_id(mailbox: MailboxAddress, home: str, incarnation: UUID) -> UUID:
    """Give the stream of what a mailbox's home records about the mailbox itself.

    One stream for each home that the mailbox ever had, so that each stream has one writer; and one
    for each incarnation of that home's log, for the reason given at `server_stream_id`.
    """
    return _named(f"mailbox:{mailbox}:{home}:{incarnation}")


def message_stream_id(message_id: UUID, server: str) -> UUID:
    """Give the stream of what a server records of a message while it is the message's home.

    One stream for each home, so that each stream has one writer. A message that comes back to an
    earlier home goes on in that home's own stream.
    """
    return _named(f"message:{message_id}:{server}")


def erasure_stream_id(call_id: UUID) -> UUID:
    """Give the stream that tells, on whichever server, that the key of a call was destroyed."""
    return _named(f"erasure:{call_id}")


def server_stream_id(server: str, incarnation: UUID) -> UUID:
    """Give the stream of a server's own events.

    One stream an incarnation: a log that went back in time would otherwise write other events
    under versions that its peers have already seen.
    """
    return _named(f"server:{server}:{incarnation}")


def access_stream_id(server: str, session: UUID) -> UUID:
    """Give the stream of accesses that one process records, for as long as that is not too long.

    ``session`` is new for each: so each stream has one writer, who need not read it.
    """
    return _named(f"access:{server}:{session}")
