"""How the demonstration speaks: plain words, each step as it happens."""

from __future__ import annotations

import time
from typing import Final, TextIO


class Narrator:
    """Says numbered steps and what came of them, with the seconds since the start."""

    _INDENT: Final = " " * 9

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started_s = time.monotonic()
        self._step = 0

    def elapsed_s(self) -> float:
        """Give the seconds since the start."""
        return time.monotonic() - self._started_s

    def step(self, sentence: str) -> None:
        """Announce a step."""
        self._step += 1
        self._say(f"\n{self.elapsed_s():5.1f} s  {self._step}. {sentence}")

    def result(self, sentence: str) -> None:
        """Say what came of it."""
        self._say(f"{self._INDENT}{sentence}")

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
