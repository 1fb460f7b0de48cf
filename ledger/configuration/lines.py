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
from typing import Any, Final

MAX_STATEMENT_LINES: Final = 2000
"""A longer statement is not looked into: cutting it costs the square of its length."""

MAX_TEXT_BYTES: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class _Statement:
    """One header or key with its value, as it stands alone."""

    line: int
    """1-based line where it begins."""
    lines: list[str]
    content: dict[str, Any]
    is_header: bool


def find_line(text: str, path: Sequence[str | int]) -> int | None:
    """Give the 1-based line of the value at ``path``, of the nearest enclosing one, or None."""
    if not path or len(text) > MAX_TEXT_BYTES:
        return None
    try:
        return _find(list(_statements(text)), tuple(path))
    except (ValueError, RecursionError):
        return None


def _find(statements: list[_Statement], path: tuple[str | int, ...]) -> int | None:
    """Follow the statements, counting array tables, and keep the deepest that leads to the path."""
    best_line, best_depth = None, 0
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    for statement in statements:
        if statement.is_header:
            table = _enter(statement.content, counts)
            here, depth_of_line = table, statement.line
        else:
            keys, value = _only_path(statement.content)
            here = (*table, *keys)
            depth_of_line = statement.line + _offset_of_element(statement, path, here, value)
        if path[: len(here)] == here and len(here) > best_depth:
            best_line, best_depth = depth_of_line, len(here)
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
    """How many lines below its key does an array's element stand?"""
    if not isinstance(value, list) or path[: len(here)] != here or len(path) == len(here):
        return 0
    wanted = path[len(here)]
    for offset in range(len(statement.lines)):
        cut = "\n".join([*statement.lines[: offset + 1], "]"])
        try:
            _, elements = _only_path(tomllib.loads(cut))
        except tomllib.TOMLDecodeError:
            continue
        if isinstance(wanted, int) and isinstance(elements, list) and len(elements) > wanted:
            return offset
    return 0


def _statements(text: str) -> Iterator[_Statement]:
    """Cut a valid file into its statements; a stretch that cannot be cut ends the search."""
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
        last = lines[end - 1].rstrip()
        if last.endswith(",") and "#" not in last:
            continue  # no statement ends with a comma, and long lists have many such lines
        try:
            return end, tomllib.loads("\n".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
    raise ValueError("statement without an end")
