"""Just enough Markdown to check our own pages: links, headings, code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[(?:[^\]]*)\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)
_CODE = re.compile(r"`(?P<code>[^`\n]+)`")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links(page: Path) -> list[str]:
    """Targets of all links outside code."""
    return [match["target"] for match in _LINK.finditer(_CODE.sub("", _prose(page)))]


def anchors(page: Path) -> set[str]:
    """What a link may name behind the ``#``: the headings, as forges spell them."""
    return {_anchor(match["text"]) for match in _HEADING.finditer(_prose(page))}


def inline_code(page: Path) -> list[str]:
    return [match["code"] for match in _CODE.finditer(_prose(page))]


def fenced(page: Path, language: str) -> list[str]:
    """Contents of all fenced blocks of a language."""
    found = _FENCED.finditer(page.read_text())
    return [match["code"] for match in found if match["language"] == language]


def console_commands(page: Path) -> Iterator[str]:
    """Give the commands of the ``console`` blocks, in their order: the lines behind a ``$``."""
    for block in fenced(page, "console"):
        yield from (line[2:] for line in block.splitlines() if line.startswith("$ "))


def _prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text())


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
