"""Counts wrong PINs, so that nobody can try them all.

A few wrong ones are free, for people make mistakes. Then each further one locks the mailbox, for
twice as long as the one before. Checks of one mailbox take turns: a hundred guesses at a time are a
hundred guesses in a row.

Kept in memory, for one server: a restart forgets it, and each server counts for itself. With N
servers somebody who can reach all of them gets N times the guesses, which is still few: about
thirty a day and server once the pauses have grown.

Source: claim 9.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from ledger.clock import Clock
from ledger.errors import TransientError
from ledger.ids import MailboxAddress

FREE_FAILURES: Final = 3
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 3600.0


class PinLockedError(TransientError):
    """Too many wrong PINs: no guess is taken for a while. Carries for how long."""


@dataclass(slots=True)
class _Guesses:
    """The wrong PINs of one mailbox since the last right one."""

    failures: int = 0
    locked_until_s: float = 0.0
    asking: int = 0
    """How many checks run or wait: none of them may be left with a count that nobody sees."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class PinGuesses:
    """The wrong PINs of all mailboxes at this server. For one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: dict[MailboxAddress, _Guesses] = {}

    async def take(self, mailbox: MailboxAddress, check: Callable[[], Awaitable[bool]]) -> bool:
        """Make one check and count it; raises PinLockedError without making it when locked."""
        guesses = self._of.setdefault(mailbox, _Guesses())
        guesses.asking += 1
        try:
            async with guesses.turn:
                self._expect_open(mailbox, guesses)
                is_right = await check()
                self._count(guesses, is_right=is_right)
                return is_right
        finally:
            guesses.asking -= 1
            self._tidy(mailbox, guesses)

    def forget(self, mailbox: MailboxAddress) -> None:
        """Begin anew: the mailbox has another PIN."""
        guesses = self._of.get(mailbox)
        if guesses is not None:
            guesses.failures, guesses.locked_until_s = 0, 0.0
            self._tidy(mailbox, guesses)

    def _expect_open(self, mailbox: MailboxAddress, guesses: _Guesses) -> None:
        wait_s = guesses.locked_until_s - self._clock.monotonic_s()
        if wait_s > 0:
            raise PinLockedError(
                f"too many wrong PINs for mailbox {mailbox}; "
                f"the next one is taken in {math.ceil(wait_s)} s",
                retry_after_s=wait_s,
            )

    def _count(self, guesses: _Guesses, *, is_right: bool) -> None:
        guesses.failures = 0 if is_right else guesses.failures + 1
        if guesses.failures >= FREE_FAILURES:
            doublings = min(guesses.failures - FREE_FAILURES, 32)
            pause_s = min(FIRST_PAUSE_S * 2**doublings, LONGEST_PAUSE_S)
            guesses.locked_until_s = self._clock.monotonic_s() + pause_s

    def _tidy(self, mailbox: MailboxAddress, guesses: _Guesses) -> None:
        """Keep only what counts something, so that asking for many mailboxes takes no memory."""
        if guesses.failures == 0 and guesses.asking == 0:
            self._of.pop(mailbox, None)
