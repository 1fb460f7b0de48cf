"""Things are made one ahead of whoever asks for them."""

import asyncio
import contextlib
import gc
import weakref

import pytest

from ledger.ahead import Ahead


class Counting:
    """Makes 1, 2, … up to a last one, or fails at one."""

    def __init__(self, last: int, fails_at: int | None = None) -> None:
        self.begun = 0
        self.is_given_up = False
        self._last = last
        self._fails_at = fails_at

    async def __call__(self) -> int | None:
        self.begun += 1
        number = self.begun
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.is_given_up = True
            raise
        if number == self._fails_at:
            raise OSError("no more")
        return number if number <= self._last else None


async def collect(ahead: Ahead[int]) -> list[int]:
    got = []
    while (made := await ahead.get()) is not None:
        got.append(made)
    return got


def test_all_are_given_in_their_order_and_none_is_made_behind_the_end():
    async def run():
        make = Counting(3)
        ahead = Ahead(make)
        assert await collect(ahead) == [1, 2, 3]
        await ahead.close()
        assert make.begun == 4

    asyncio.run(run())


def test_next_one_is_being_made_while_one_is_in_use():
    async def run():
        make = Counting(3)
        ahead = Ahead(make)
        assert await ahead.get() == 1
        await asyncio.sleep(0)
        assert make.begun == 2
        await ahead.close()
        assert make.is_given_up
        assert make.begun == 2

    asyncio.run(run())


def test_error_comes_behind_all_that_was_made_before_it():
    async def run():
        ahead = Ahead(Counting(9, fails_at=3))
        assert [await ahead.get(), await ahead.get()] == [1, 2]
        with pytest.raises(OSError, match="no more"):
            await ahead.get()
        await ahead.close()

    asyncio.run(run())


def test_error_and_what_it_leads_to_are_let_go_by_closing():
    class FailureError(Exception):
        pass

    failures = []

    async def fail() -> int | None:
        failure = FailureError()
        failures.append(weakref.ref(failure))
        try:
            raise failure
        finally:
            del failure

    async def run():
        ahead = Ahead(fail)
        with contextlib.suppress(FailureError):
            try:
                await ahead.get()
            finally:
                await ahead.close()
        await asyncio.sleep(0)
        assert [failure() for failure in failures] == [None]

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_error_goes_through_a_pipeline_and_leaves_no_task():
    async def run():
        first = Ahead(Counting(9, fails_at=2))

        async def double() -> int | None:
            number = await first.get()
            return None if number is None else 2 * number

        second = Ahead(double)
        assert await second.get() == 2
        with pytest.raises(OSError, match="no more"):
            await second.get()
        await second.close()
        await first.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
