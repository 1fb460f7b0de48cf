"""How answers look: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ledger.storage.event_log import LogEntry
from vmledger.one_line import one_line

_PIPE_WIDTH: Final = 200
"""Columns when nobody looks: lines that `grep` finds whole, identifiers never broken."""


def print_json(document: object) -> None:
    """Print one JSON document, indented."""
    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def print_json_line(document: object) -> None:
    """Print one line of newline-delimited JSON, at once."""
    print(msgspec.json.encode(document).decode(), flush=True)


def console(*, to_stderr: bool = False) -> Console:
    """Give a console that is as wide as its window, or wide enough for a pipe."""
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else _PIPE_WIDTH,
        highlight=False,
        soft_wrap=False,
    )


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, if_empty: str, title: str = ""
) -> None:
    """Print a table; one sentence instead of an empty one.

    A column whose name starts with ``#`` is of numbers and stands right.
    """
    filled = [[_cell(value) for value in row] for row in rows]
    if not filled:
        print(if_empty)
        return
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        is_number = column.startswith("#")
        table.add_column(
            column.lstrip("#"), justify="right" if is_number else "left", overflow="fold"
        )
    for row in filled:
        table.add_row(*row)
    console().print(table)


def _cell(value: object) -> Text:
    """Text as it is: what callers send must never be read as markup, nor by the terminal."""
    return Text("" if value is None else one_line(str(value)))


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line."""
    lines = [(name, value) for name, value in facts if value not in (None, "")]
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        print(f"{name:<{width}}  {one_line(str(value))}")


def progress_bar() -> Progress:
    """Give a progress bar on standard error; it shows nothing where nobody looks."""
    shown = console(to_stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=shown,
        transient=True,
        disable=not shown.is_terminal,
    )


def show_time(value: object) -> str:
    """Show a moment to the second, in UTC."""
    moment = parse_time(value)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if moment else ""


def parse_time(value: object) -> datetime | None:
    """Read a moment as JSON holds it; None for an absent one."""
    if isinstance(value, datetime) or value is None:
        return value
    return datetime.fromisoformat(str(value))


def show_duration(duration_ms: Any) -> str:
    """Show a recording's length as minutes and seconds."""
    if duration_ms is None:
        return ""
    minutes, seconds = divmod(round(float(duration_ms) / 1000), 60)
    return f"{minutes}:{seconds:02d}"


def show_age(seconds: Any) -> str:
    """Show how long ago something was, in the one unit that matters."""
    if seconds is None:
        return ""
    for name, unit_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * unit_s:
            return f"{float(seconds) / unit_s:.0f} {name}"
    return f"{float(seconds):.0f} s"


def show_size(size_bytes: Any) -> str:
    """Show a size in the unit that leaves few digits."""
    if size_bytes is None:
        return ""
    size = float(size_bytes)
    for name in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {name}" if name == "B" else f"{size:.1f} {name}"
        size /= 1000
    return f"{size:.1f} TB"


def show_caller(fields: Mapping[str, Any], *names: str) -> str:
    """Show who called: the first of these fields that is there, or why none is known."""
    state = fields.get("caller_state", "known")
    if state != "known":
        return f"({state})"
    return next((str(fields[name]) for name in names if fields.get(name)), "withheld")


def entry_document(entry: LogEntry) -> dict[str, Any]:
    """Give an entry of the log as JSON shows it."""
    return {
        "position": entry.position,
        "topic": entry.topic,
        "stream": entry.originator_id,
        "version": entry.originator_version,
        "origin": entry.origin,
        "origin_position": entry.origin_position,
        # Verbatim: these very bytes are what the tree covers.
        "event": msgspec.Raw(entry.plain),
    }
