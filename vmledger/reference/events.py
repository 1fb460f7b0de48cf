"""The reference of the events, written from their declarations and docstrings.

Python keeps no docstring of a field, so this reads the source of ``ledger.events``: its classes,
the strings under their fields, and the headings between them.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ledger import events

INTRODUCTION: Final = """\
# Events

What can happen to a call, a message, a mailbox and a server. `make docs` writes this page from the
declarations in the code.

An event is one JSON object. Its bytes, as the recording server first wrote them, are hashed into
that server's log, stored and shipped; no server ever encodes them again. `event` names its kind,
`v` the version of that kind. A server that meets a kind or version that it does not know keeps the
event as it is and reports it.
"""

_HEADING: Final = re.compile(r"# --- (?P<title>.+?) -+")
_UNSHOWN: Final = ("Event", "OpaqueEvent", "Stamp")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a struct, or a member of an enum."""

    name: str
    kind: str
    """Its type as declared; empty for a member of an enum."""
    default: str | None
    """None for a field that must be given; the value, for a member of an enum."""
    text: str


@dataclass(frozen=True, slots=True)
class Declaration:
    """A class as its source declares it."""

    name: str
    line: int
    topic: str | None
    """None for a class that is no event: an enum, or a part that events share."""
    text: str
    fields: list[Field]


def page() -> str:
    """Write the whole page."""
    source = inspect.getsource(events)
    classes = declarations(source)
    kinds = [declared for declared in classes if declared.topic is not None]
    parts = [d for d in classes if d.topic is None and d.name not in _UNSHOWN]
    common = next(declared for declared in classes if declared.name == "Event")
    link = {declared.name: f"[{declared.name}](#{declared.name.lower()})" for declared in parts}
    blocks = [INTRODUCTION, "## Every event\n", _table(common, link)]
    for title, members in _grouped(source, kinds):
        blocks += [f"## {title}\n", *[_section(member, link) for member in members]]
    blocks += ["## Parts of events\n", *[_section(part, link) for part in parts]]
    return "\n".join(blocks)


def declarations(source: str) -> list[Declaration]:
    """Read the public classes of a module's source."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return [_declaration(node) for node in classes if not node.name.startswith("_")]


def _declaration(node: ast.ClassDef) -> Declaration:
    topic = next((ast.literal_eval(k.value) for k in node.keywords if k.arg == "tag"), None)
    fields = [_field(first, second) for first, second in pairwise([*node.body, ast.Pass()])]
    return Declaration(
        name=node.name,
        line=node.lineno,
        topic=topic,
        text=_markdown(ast.get_docstring(node) or ""),
        fields=[field for field in fields if field is not None],
    )


def _field(node: ast.stmt, follower: ast.stmt) -> Field | None:
    """Read a field or member and the string under it; None for another kind of statement."""
    text = ""
    if isinstance(follower, ast.Expr) and isinstance(follower.value, ast.Constant):
        text = _markdown(inspect.cleandoc(str(follower.value.value)))
    match node:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=value):
            default = None if value is None else ast.unparse(value)
            return Field(name, ast.unparse(kind), default, text)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return Field(name, "", str(ast.literal_eval(value)), text)
    return None


def _grouped(source: str, kinds: list[Declaration]) -> list[tuple[str, list[Declaration]]]:
    """Put each event under the heading comment above it."""
    lines = source.splitlines()
    found = [(n, m["title"]) for n, line in enumerate(lines, 1) if (m := _HEADING.match(line))]
    ends = [start for start, _ in found[1:]] + [len(lines) + 1]
    return [
        (title, [kind for kind in kinds if start < kind.line < end])
        for (start, title), end in zip(found, ends, strict=True)
    ]


def _section(declared: Declaration, link: dict[str, str]) -> str:
    if declared.topic is None:
        heading = f"### {declared.name}\n"
    else:
        version = events.newest_version(declared.topic)
        heading = f"### {declared.topic}\n\n`{declared.name}`, version {version}.\n"
    return "\n".join([heading, f"{declared.text}\n", _table(declared, link)])


def _table(declared: Declaration, link: dict[str, str]) -> str:
    if not declared.fields:
        return ""
    is_enum = not declared.fields[0].kind
    rows = ["| value | meaning |", "|---|---|"] if is_enum else _STRUCT_TABLE
    cells = [
        _member_row(field) if is_enum else _field_row(field, link) for field in declared.fields
    ]
    return "\n".join([*rows, *cells, ""])


_STRUCT_TABLE: Final = ["| field | type | if absent | meaning |", "|---|---|---|---|"]


def _member_row(field: Field) -> str:
    return f"| `{field.default}` | {cell(field.text)} |"


def _field_row(field: Field, link: dict[str, str]) -> str:
    name, _, null = field.kind.partition(" | None")
    kind = link.get(name, f"`{name}`") + (" or null" if null or "| None" in field.kind else "")
    absent = {None: "must be there", "None": "null"}.get(field.default, f"`{field.default}`")
    return f"| `{field.name}` | {kind} | {absent} | {cell(field.text)} |"


def cell(text: str) -> str:
    """Write a text so that it fits a cell of a table."""
    return " ".join(text.replace("|", r"\|").split())


def _markdown(text: str) -> str:
    """Turn the double back-quotes of docstrings into the single ones of Markdown."""
    return text.replace("``", "`")


if __name__ == "__main__":
    print(page(), end="")
