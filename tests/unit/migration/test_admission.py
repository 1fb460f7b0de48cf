"""The line before a home: who comes in when, and who is asked to come back."""

import asyncio
import random

import pytest

from ledger.errors import TransientError
from ledger.migration.admission import MAX_WAITING, Admission
from tests.simulation.loop import VirtualLoop


class House:
    """Batches that come to a home, and go when the test lets them."""

    def __init__(self, max_batches: int, **limits) -> None:
        self.places = Admission(max_batches, random.Random(1), **limits)
        self.entered: list[str] = []
        self._going: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task] = {}

    async def come(self, *names: str, size_bytes: int = 1) -> None:
        """Let batches come; the first letter of the name is the origin."""
        for name in names:
            self._going[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._visit(name, size_bytes))
            await settle()

    async def go(self, *names: str) -> None:
        for name in names:
            self.let_go(name)
            await settle()

    def let_go(self, name: str) -> None:
        self._going[name].set()

    async def _visit(self, name: str, size_bytes: int) -> None:
        async with self.places.enter(name[0], size_bytes):
            self.entered.append(name)
            await self._going[name].wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def run(main) -> None:
    """Run on virtual time: waiting costs nothing."""
    VirtualLoop().run(main())


def test_batch_that_finds_no_place_waits_and_comes_in_when_one_is_free():
    async def main():
        house = House(2)
        await house.come("a1", "b1", "c1")
        assert house.entered == ["a1", "b1"]
        await house.go("b1")
        assert house.entered == ["a1", "b1", "c1"]

    run(main)


def test_one_origin_gets_at_most_half_of_the_places():
    async def main():
        house = House(4)
        await house.come("a1", "a2", "a3", "b1")
        assert house.entered == ["a1", "a2", "b1"]
        await house.go("b1")
        assert "a3" not in house.entered
        await house.go("a1")
        assert house.entered[-1] == "a3"

    run(main)


def test_origins_come_in_by_turns_however_many_batches_one_has_in_line():
    async def main():
        house = House(2)
        await house.come("a1", "b1", "a2", "a3", "a4", "b2", "c1")
        await house.go("a1", "b1", "a2", "b2", "c1", "a3")
        assert house.entered == ["a1", "b1", "a2", "b2", "c1", "a3", "a4"]

    run(main)


def test_large_batch_waits_until_it_is_alone_and_small_ones_do_not_pass_it_for_ever():
    async def main():
        house = House(8, max_bytes=10)
        await house.come("a1", size_bytes=5)
        await house.come("b1", size_bytes=50)
        await house.come("c1")
        assert house.entered == ["a1"]
        await house.go("a1")
        assert house.entered == ["a1", "b1"]
        await house.go("b1")
        assert house.entered == ["a1", "b1", "c1"]

    run(main)


def test_those_who_waited_too_long_are_sent_away_with_different_pauses():
    async def main():
        house = House(1, max_wait_s=10)
        await house.come("a1")
        begun_s = asyncio.get_running_loop().time()
        names = [f"b{number}" for number in range(10)]
        await house.come(*names)
        sent_away = await asyncio.gather(*map(house.tasks.get, names), return_exceptions=True)
        assert asyncio.get_running_loop().time() - begun_s == 10
        assert all(isinstance(error, TransientError) for error in sent_away)
        assert len({error.retry_after_s for error in sent_away}) == 10

    run(main)


def test_line_of_one_origin_is_bounded():
    async def main():
        house = House(1)
        await house.come("a0", *(f"a{number}" for number in range(1, MAX_WAITING + 1)))
        await house.come("a-one-too-many", "b1")
        with pytest.raises(TransientError):
            await house.tasks["a-one-too-many"]
        assert not house.tasks["b1"].done()

    run(main)


@pytest.mark.parametrize("steps", range(6))
def test_place_of_a_batch_that_is_given_up_while_it_is_called_in_is_not_lost(steps):
    async def main():
        house = House(1)
        await house.come("a1", "b1", "c1")
        house.let_go("a1")
        for _ in range(steps):
            await asyncio.sleep(0)
        house.tasks["b1"].cancel()
        await settle()
        assert house.entered[-1] == "c1"
        await house.go("c1")
        await house.come("d1")
        assert house.entered[-1] == "d1"

    run(main)
