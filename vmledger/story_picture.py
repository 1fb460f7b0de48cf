"""The story of a message as a picture: a lane for each server, time downwards, a row for each step.

A thick lane says that the server answers for the message then (custody). An arrow is the message on
its way, a dashed one the receipt. Shapes tell steps apart, so that no colour has to: a disc is
something that happened to the message, a ring something about the way to its home, a cross
something that failed. Long pauses are written between the rows instead of being drawn to scale.

The SVG stands alone: no script, no font or style from elsewhere. It carries a title and a
description, and each row its sentence, for those who have it read to them.

Source: SVG 1.1; SVG accessibility (title, desc, role="img").
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ledger.events import ServerId
from vmledger.cli.output import show_age
from vmledger.whole_story import Step, WholeStory, Witness

_NAMESPACE: Final = "http://www.w3.org/2000/svg"
_TIME_WIDTH: Final = 176
_LANE_WIDTH: Final = 104
_TEXT_CHARACTERS: Final = 92
_CHARACTER_WIDTH: Final = 7.1
_LINE_HEIGHT: Final = 17
_ROW_GAP: Final = 13
_TOP: Final = 96
_MARGIN: Final = 20
_PAUSE: Final = timedelta(minutes=1)
"""Longer pauses between two steps are written down."""
_FAILURES: Final = frozenset({"attempts-failed", "peer-lost", "migration-refused"})
_INK, _QUIET, _LANE = "#1b1f24", "#57606a", "#8c959f"
_BAND, _FAILED = "#9ec5fe", "#b3261e"
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class _Row:
    """Where a step is drawn."""

    step: Step
    lines: list[str]
    y: float
    """Of its mark."""


def draw_story(story: WholeStory) -> bytes:
    """Draw a story as an SVG document, UTF-8."""
    told_by = [step.recorded_by for step in story.steps]
    servers = dict.fromkeys([*told_by, *(asked.server for asked in story.servers)])
    lanes = {server: n for n, server in enumerate(servers)}
    rows, pauses, bottom = _place_rows(story.steps)
    text_x = _MARGIN + _TIME_WIDTH + _LANE_WIDTH * len(lanes) + 10
    width = round(text_x + _TEXT_CHARACTERS * _CHARACTER_WIDTH + _MARGIN)
    notes = _notes(story)
    height = round(bottom + _LINE_HEIGHT * (len(notes) + 1) + _MARGIN)
    svg = _open(story, width, height)
    _draw_lanes(svg, story, lanes, bottom)
    _draw_custody(svg, rows, lanes, bottom)
    for arrow in _arrows(rows):
        _draw_arrow(svg, lanes, *arrow)
    for y, text in pauses:
        _text(svg, _MARGIN, y, text, fill=_QUIET, font_style="italic")
    for row in rows:
        _draw_row(svg, row, lanes, text_x)
    for n, note in enumerate(notes):
        _text(svg, _MARGIN, bottom + _LINE_HEIGHT * (n + 1), note, fill=_FAILED)
    indent(svg)
    return bytes(tostring(svg, encoding="utf-8", xml_declaration=True)) + b"\n"


def _place_rows(steps: Sequence[Step]) -> tuple[list[_Row], list[tuple[float, str]], float]:
    """Give each step its place, the pauses between them, and where the last one ends."""
    rows: list[_Row] = []
    pauses: list[tuple[float, str]] = []
    y = float(_TOP)
    for step in steps:
        if rows and step.recorded_at - rows[-1].step.recorded_at >= _PAUSE:
            pause = step.recorded_at - rows[-1].step.recorded_at
            pauses.append((y, f"… {show_age(pause.total_seconds())} …"))
            y += _LINE_HEIGHT + _ROW_GAP
        lines = textwrap.wrap(_clean(step.text), _TEXT_CHARACTERS) or [step.event]
        rows.append(_Row(step, lines, y))
        y += _LINE_HEIGHT * len(lines) + _ROW_GAP
    return rows, pauses, y


def _notes(story: WholeStory) -> list[str]:
    """Say what is missing: a picture that hides it would be a lie."""
    said = {Witness.AWAY: "is away", Witness.REFUSED: "did not tell"}
    notes = [
        f"{asked.server} {said[asked.answer]}: what it knows is missing here"
        for asked in story.servers
        if asked.answer in said
    ]
    cut = [asked for asked in story.servers if asked.left_out]
    notes += [f"{asked.left_out} events of {asked.server} are left out" for asked in cut]
    if any(step.is_disputed for step in story.steps):
        notes.append("servers disagree about the steps marked DISPUTED; verify both logs")
    return notes


def _open(story: WholeStory, width: int, height: int) -> Element:
    title = f"The story of message {story.message_id}"
    svg = Element(
        "svg",
        {
            "xmlns": _NAMESPACE,
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "role": "img",
            "aria-labelledby": "title description",
            "font-family": "system-ui, 'DejaVu Sans', Arial, sans-serif",
            "font-size": "13",
        },
    )
    SubElement(svg, "title", id="title").text = title
    SubElement(svg, "desc", id="description").text = _clean(_description(story))
    _define_arrowheads(svg)
    SubElement(svg, "rect", width=str(width), height=str(height), fill="#ffffff")
    _text(svg, _MARGIN, 30, title, font_size="17", font_weight="bold")
    legend = (
        "thick lane: answers for the message",
        "→ shipped",
        "⇢ receipt",
        "● message",
        "○ way to its home",
        "✕ failed",
        "times are UTC",
    )
    _text(svg, _MARGIN, 50, " · ".join(legend), fill=_QUIET)
    return svg


def _description(story: WholeStory) -> str:
    servers = ", ".join(asked.server for asked in story.servers)
    steps = " ".join(
        f"{n}. {_time(step)}, {step.recorded_by}: {step.text}."
        for n, step in enumerate(story.steps, 1)
    )
    return f"Asked: {servers}. {steps} {' '.join(_notes(story))}".strip()


def _define_arrowheads(svg: Element) -> None:
    marker = SubElement(
        SubElement(svg, "defs"),
        "marker",
        id="head",
        viewBox="0 0 10 10",
        refX="9",
        refY="5",
        markerWidth="7",
        markerHeight="7",
        orient="auto",
    )
    SubElement(marker, "path", d="M0 0 L10 5 L0 10 z", fill=_INK)


def _draw_lanes(svg: Element, story: WholeStory, lanes: dict[ServerId, int], bottom: float) -> None:
    said = {asked.server: asked.answer for asked in story.servers}
    for server, lane in lanes.items():
        x = _lane_x(lane)
        is_known = said.get(server) in (Witness.TOLD, Witness.KNOWS_NOTHING)
        line = _line(svg, x, _TOP - 16, x, bottom - _ROW_GAP, stroke=_LANE)
        if not is_known:
            line.set("stroke-dasharray", "2 5")
        name = textwrap.shorten(_clean(server), 14, placeholder="…")
        _text(svg, x, _TOP - 24, name, text_anchor="middle", font_weight="bold")


def _draw_custody(
    svg: Element, rows: Sequence[_Row], lanes: dict[ServerId, int], bottom: float
) -> None:
    for server, start, end in custody([row.step for row in rows]):
        x, y2 = _lane_x(lanes[server]), rows[end].y if end is not None else bottom - _ROW_GAP
        _line(svg, x, rows[start].y - 4, x, y2 - 4, stroke=_BAND, stroke_width="11")


def custody(steps: Sequence[Step]) -> list[tuple[ServerId, int, int | None]]:
    """Say which server answers from which step to which one; None: it still does."""
    spans: list[tuple[ServerId, int, int | None]] = []
    began: dict[ServerId, int] = {}
    for n, step in enumerate(steps):
        server = step.recorded_by
        if step.event in ("message-stored", "message-delivered"):
            began.setdefault(server, n)
        elif step.event == "message-migrated" and server in began:
            spans.append((server, began.pop(server), n))
    return spans + [(server, start, None) for server, start in began.items()]


def _arrows(rows: Sequence[_Row]) -> Iterable[tuple[_Row, _Row, bool]]:
    """Give the ways of the message (False) and of receipts (True): from which step to which."""
    for n, row in enumerate(rows):
        before = rows[:n]
        if row.step.event == "message-delivered":
            origin = row.step.fields.get("origin")
            found = _last(before, origin, ("message-stored", "message-rehomed", "message-requeued"))
            if found is not None and origin != row.step.recorded_by:
                yield found, row, False
        elif row.step.event == "message-migrated":
            found = _last(before, row.step.fields.get("home"), ("message-delivered",))
            if found is not None:
                yield found, row, True


def _last(rows: Sequence[_Row], server: object, events: Sequence[str]) -> _Row | None:
    fitting = (r for r in reversed(rows) if r.step.recorded_by == server and r.step.event in events)
    return next(fitting, None)


def _draw_arrow(
    svg: Element, lanes: dict[ServerId, int], start: _Row, end: _Row, is_receipt: bool
) -> None:
    x1, x2 = _lane_x(lanes[start.step.recorded_by]), _lane_x(lanes[end.step.recorded_by])
    towards = 8 if x2 > x1 else -8
    line = _line(svg, x1 + towards, start.y - 4, x2 - towards, end.y - 4, stroke=_INK)
    line.set("marker-end", "url(#head)")
    if is_receipt:
        line.set("stroke-dasharray", "5 4")


def _draw_row(svg: Element, row: _Row, lanes: dict[ServerId, int], text_x: float) -> None:
    step = row.step
    group = SubElement(svg, "g")
    SubElement(group, "title").text = _clean(
        f"{_time(step)} {step.recorded_by} {step.event}: {step.text}"
    )
    ink = _FAILED if step.event in _FAILURES or step.is_disputed else _INK
    _text(group, _MARGIN, row.y, _time(step), fill=_INK)
    _draw_mark(group, step, _lane_x(lanes[step.recorded_by]), row.y - 4)
    disputed = "DISPUTED: " if step.is_disputed else ""
    for n, line in enumerate(row.lines):
        text = disputed + line if n == 0 else line
        _text(group, text_x, row.y + n * _LINE_HEIGHT, text, fill=ink)


def _draw_mark(group: Element, step: Step, x: float, y: float) -> None:
    if step.event in _FAILURES:
        for sign in (1, -1):
            _line(group, x - 5, y - 5 * sign, x + 5, y + 5 * sign, stroke=_FAILED, stroke_width="2")
        return
    fill = _INK if step.is_about_message else "#ffffff"
    SubElement(group, "circle", cx=f"{x:g}", cy=f"{y:g}", r="5", fill=fill, stroke=_INK)


def _lane_x(lane: int) -> float:
    return _MARGIN + _TIME_WIDTH + _LANE_WIDTH * (lane + 0.5)


def _time(step: Step) -> str:
    moment = step.recorded_at.astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"


def _text(parent: Element, x: float, y: float, text: str, **style: str) -> None:
    attributes = {name.replace("_", "-"): value for name, value in style.items()}
    element = SubElement(parent, "text", {"x": f"{x:g}", "y": f"{y:g}"} | attributes)
    element.text = _clean(text)


def _line(parent: Element, x1: float, y1: float, x2: float, y2: float, **style: str) -> Element:
    attributes = {name.replace("_", "-"): value for name, value in style.items()}
    ends = {"x1": f"{x1:g}", "y1": f"{y1:g}", "x2": f"{x2:g}", "y2": f"{y2:g}"}
    return SubElement(parent, "line", ends | attributes)


def _clean(text: str) -> str:
    """Replace what XML cannot hold: callers' names hold anything."""
    return _NOT_XML.sub("\ufffd", text)
