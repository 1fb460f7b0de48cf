"""Make the next thing while the one before is in use.

Source: claim 14 (common functions).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """Things made one after the other by a function, each before somebody asks for it.

    One in front of another makes a pipeline. Close it: what is being made then is given up. For one
    event loop.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Made | None]]) -> None:
        """Begin with the first; ``make`` gives None, once, when there are no more."""
        self._make = make
        self._next: asyncio.Task[Made | None] | None = asyncio.create_task(make())

    async def get(self) -> Made | None:
        """Give the next one, and begin the one behind it; None when there are no more.

        Raises what ``make`` raised; all before it was given then.
        """
        assert self._next is not None, "it is closed"
        made = await self._next
        if made is not None:
            self._next = asyncio.create_task(self._make())
        return made

    async def close(self) -> None:
        """Begin no more, and let go of what was made."""
        # An error leads over its traceback to whoever waited for it, and so back to here: kept, it
        # would hold in memory all that they had in hand.
        last, self._next = self._next, None
        if last is not None:
            last.cancel()
            await asyncio.gather(last, return_exceptions=True)
