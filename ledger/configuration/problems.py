"""What is wrong with a configuration: every problem at once, each with its place and a remedy.

A server refuses to start when its configuration is doubtful. So that an operator is not sent round
in circles, one attempt reports all problems.

Source: claims 6 and 13.
"""

from __future__ import annotations

import json
import re
from typing import TypeAlias

from ledger.configuration.lines import LineFinder
from ledger.errors import CallerError

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands: keys of tables and 0-based places in arrays."""


class ConfigurationError(CallerError):
    """The configuration cannot be used. One line a problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Problems:
    """Collects the problems of one file."""

    def __init__(self, file_name: str, text: str = "") -> None:
        self._file_name = file_name
        self._lines = LineFinder(text)
        self._found: dict[str, None] = {}  # a set that keeps its order

    def add(self, path: KeyPath, what: str, advice: str) -> None:
        """Note that the value at ``path`` is wrong, and what to do about it."""
        place = f"{self._file_name}: {show_path(path)}" if path else self._file_name
        line = self._lines.find(path)
        where = f"{place} (line {line})" if line is not None else place
        self._found[f"{where}: {what}; {advice}"] = None

    def raise_any(self) -> None:
        """Raise ConfigurationError if anything was noted."""
        if self._found:
            raise ConfigurationError(list(self._found))


def show_path(path: KeyPath) -> str:
    """Write a path as people do: ``servers[2].extensions[0]``, places counted from 0."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in path)
    return text.removeprefix(".")


def _key(key: str) -> str:
    """Quote a key that TOML would have quoted, so that a problem stays one line."""
    is_bare = re.fullmatch(r"[A-Za-z0-9_-]+", key) is not None
    return key if is_bare else json.dumps(key)
