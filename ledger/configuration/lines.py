"""On which line of a TOML file does a value stand?

The standard parser does not tell, nor does any maintained library for Python. So the file is cut
into its statements with the parser's own help: a statement is the shortest run of lines that it
accepts. Only used when there is a problem to report, and only as a help: no line is better than a
wrong one, so anything unexpected gives None.

Source: claims 6 and 13.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

MAX_STATEMENT_LINES: Final = 2000
"""A longer statement ends the search: cutting it costs the square of its length."""

MAX_ELEMENT_LINES: Final = 50
"""An element of an array that takes more lines is not looked for."""

MAX_TEXT_CHARACTERS: Final = 2_000_000


@dataclass(frozen=True)
class _Statement:
    """One header or key with its value, as it stands alone."""

    line: int
    """1-based line where it begins."""
    lines: list[str]
    content: dict[str, Any]
    is_header: bool

    @cached_property
    def element_offsets(self) -> list[int]:
        """For each element of an array: how many lines below the key it stands."""
        return list(_offsets_of_elements(self.lines))


class LineFinder:
    """Finds lines in one text. The text is cut up once, however many lines are asked for."""

    def __init__(self, text: str) -> None:
        self._text = text

    def find(self, path: Sequence[str | int]) -> int | None:
        """Give the 1-based line of the value at ``path``, of the nearest enclosing one, or None."""
        return _find(self._statements, tuple(path))

    @cached_property
    def _statements(self) -> list[_Statement]:
        if len(self._text) > MAX_TEXT_CHARACTERS:
            return []
        try:
            return list(_cut(self._text))
        except (ValueError, RecursionError):
            return []


def _cut(text: str) -> Iterator[_Statement]:
    """Cut a valid file into its statements."""
    lines = text.split("\n")
    start = 0
    while start < len(lines):
        if not lines[start].strip() or lines[start].lstrip().startswith("#"):
            start += 1
            continue
        end, content = _shortest_valid(lines, start)
        is_header = lines[start].lstrip().startswith("[")
        yield _Statement(start + 1, lines[start:end], content, is_header)
        start = end


def _shortest_valid(lines: list[str], start: int) -> tuple[int, dict[str, Any]]:
    """Give the end (exclusive) and content of the statement that begins on this line."""
    for end in range(start + 1, min(len(lines), start + MAX_STATEMENT_LINES) + 1):
        if _ends_with_comma(lines[end - 1]):
            continue  # no statement does, and long lists have many such lines
        try:
            return end, tomllib.loads("\n".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
    raise ValueError("statement without an end")


def _ends_with_comma(line: str) -> bool:
    """Does the line end with a comma, whatever comment follows? Says no where in doubt."""
    code = line.split("#", maxsplit=1)[0].rstrip()
    is_comment = code.count('"') % 2 == 0 and code.count("'") % 2 == 0
    return is_comment and code.endswith(",")


def _find(statements: list[_Statement], path: tuple[str | int, ...]) -> int | None:
    """Follow the statements, counting array tables, and keep the deepest that leads to the path."""
    best_line, best_depth = None, 0
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    for statement in statements:
        if statement.is_header:
            table = _enter(statement.content, counts)
            here, line = table, statement.line
        else:
            keys, value = _only_path(statement.content)
            here = (*table, *keys)
            line = statement.line + _offset_of_element(statement, path, here, value)
        if path[: len(here)] == here and len(here) > best_depth:
            best_line, best_depth = line, len(here)
    return best_line


def _enter(
    header: dict[str, Any], counts: dict[tuple[str | int, ...], int]
) -> tuple[str | int, ...]:
    """Give the path of the table that a header opens; ``[[x]]`` opens the next one of its array."""
    path: tuple[str | int, ...] = ()
    value: Any = header
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        path = (*path, key)
        if isinstance(value, list):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
        if isinstance(value, list):
            value = value[0]
    return path


def _only_path(content: dict[str, Any]) -> tuple[tuple[str, ...], Any]:
    """Give the dotted key of a statement and its value; inline tables count as dotted keys."""
    keys: tuple[str, ...] = ()
    value: Any = content
    while isinstance(value, dict) and len(value) == 1:
        key, value = next(iter(value.items()))
        keys = (*keys, key)
    return keys, value


def _offset_of_element(
    statement: _Statement, path: tuple[str | int, ...], here: tuple[str | int, ...], value: Any
) -> int:
    """How many lines below its key does the element stand that the path leads to?"""
    if not isinstance(value, list) or path[: len(here)] != here or len(path) == len(here):
        return 0
    wanted, offsets = path[len(here)], statement.element_offsets
    return offsets[wanted] if isinstance(wanted, int) and wanted < len(offsets) else 0


def _offsets_of_elements(lines: list[str]) -> Iterator[int]:
    """Cut an array into runs of lines that are arrays by themselves, and count their elements.

    An array that cannot be cut so (its commas stand at the beginnings of lines) gives fewer.
    """
    start = 0
    for end in range(1, len(lines) + 1):
        if end - start > MAX_ELEMENT_LINES:
            return
        run = "\n".join(lines[start:end])
        opened = run if start == 0 else f"x = [\n{run}"
        is_last = end == len(lines)
        try:
            _, elements = _only_path(tomllib.loads(opened if is_last else f"{opened}\n]"))
        except tomllib.TOMLDecodeError:
            continue
        yield from [start] * len(elements)
        start = end
