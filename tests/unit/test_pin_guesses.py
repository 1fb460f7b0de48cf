"""Wrong PINs are counted, and lock a mailbox for longer and longer."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ledger.clock import SystemClock
from ledger.ids import MailboxAddress
from ledger.server.pin_guesses import LONGEST_PAUSE_S, PinGuesses, PinLockedError

MAILBOX = MailboxAddress("2001")


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


class Clock(SystemClock):
    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s


class Door:
    """A mailbox whose PIN somebody guesses."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.guesses = PinGuesses(self.clock)
        self.checks = 0

    async def guess(self, is_right: bool = False, mailbox: MailboxAddress = MAILBOX) -> bool:
        async def check() -> bool:
            self.checks += 1
            await asyncio.sleep(0)
            return is_right

        return await self.guesses.take(mailbox, check)

    async def pause_s(self) -> float:
        with pytest.raises(PinLockedError) as caught:
            await self.guess(is_right=True)
        return caught.value.retry_after_s


@in_a_loop
async def test_pauses_grow_with_each_wrong_pin_up_to_the_longest():
    door = Door()
    pauses = []
    for _ in range(2):
        await door.guess()
    for _ in range(14):
        await door.guess()
        pauses.append(await door.pause_s())
        door.clock.now_s += pauses[-1]
    assert pauses[:4] == [5.0, 10.0, 20.0, 40.0]
    assert pauses[-1] == LONGEST_PAUSE_S


@in_a_loop
async def test_locked_mailbox_makes_no_check_at_all():
    door = Door()
    for _ in range(3):
        await door.guess()
    await door.pause_s()
    assert door.checks == 3


@in_a_loop
async def test_right_pin_ends_the_count():
    door = Door()
    for _ in range(2):
        await door.guess()
    assert await door.guess(is_right=True)
    for _ in range(2):
        assert not await door.guess()


@in_a_loop
async def test_guesses_at_the_same_time_take_turns():
    door = Door()
    results = await asyncio.gather(*(door.guess() for _ in range(20)), return_exceptions=True)
    assert results[:3] == [False] * 3
    assert all(isinstance(result, PinLockedError) for result in results[3:])
    assert door.checks == 3


@in_a_loop
async def test_guess_that_is_given_up_does_not_hide_the_count_of_those_behind_it():
    door = Door()
    for _ in range(3):
        given_up = asyncio.create_task(door.guess())
        counted = asyncio.create_task(door.guess())
        await asyncio.sleep(0)
        given_up.cancel()
        assert not await counted
    await door.pause_s()


@in_a_loop
async def test_each_mailbox_counts_for_itself():
    door = Door()
    for _ in range(3):
        await door.guess()
    assert not await door.guess(mailbox=MailboxAddress("2002"))


@in_a_loop
async def test_another_pin_begins_anew():
    door = Door()
    for _ in range(3):
        await door.guess()
    door.guesses.forget(MAILBOX)
    assert await door.guess(is_right=True)


@in_a_loop
async def test_mailboxes_without_wrong_pins_take_no_memory():
    door = Door()
    for number in range(50):
        await door.guess(is_right=True, mailbox=MailboxAddress(str(number)))
    assert door.guesses._of == {}
