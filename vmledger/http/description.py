"""The description of the API that it serves: OpenAPI, made from the routes and their structs.

Python keeps no docstring of a field, so those are read from the source of the structs: what stands
under a field in the code stands beside it in the description.

Source: OpenAPI 3.1.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from types import ModuleType
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme, Tag

import ledger.events
import ledger.mailbox
import ledger.message
import ledger.telephony.switch
import projections.calls
import projections.pending
from vmledger.http import operations, problems, retention, views

_DOCUMENTED: Final[Sequence[ModuleType]] = (
    ledger.events,
    ledger.mailbox,
    ledger.message,
    ledger.telephony.switch,
    projections.calls,
    projections.pending,
    operations,
    problems,
    retention,
    views,
)
"""Where the structs and enums of requests and answers are declared; the last of a name counts."""

_TAGS: Final = [
    Tag("calls", "A switch reports calls and hands over recordings."),
    Tag("mailboxes", "Read messages, listen to them, act on them."),
    Tag("profiles", "A mailbox's own greetings and PIN."),
    Tag("operations", "What waits, and for whom."),
    Tag("retention", "What is old goes, unless it is held."),
    Tag("log", "The events themselves."),
    Tag("health", "For probes and monitoring."),
]


def describe(routes: Litestar) -> bytes:
    """Give the OpenAPI description of an application's routes, as JSON for people too."""
    schema = routes.openapi_schema.to_schema()
    _add_field_texts(schema["components"]["schemas"])
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted")) + b"\n"


def openapi_config() -> OpenAPIConfig:
    """Give what the description says of the API as a whole."""
    return OpenAPIConfig(
        title="vmledger",
        version=version("voicemail-ledger"),
        description=(
            "One server of a replicated voicemail ledger. Every error is a problem detail "
            "(RFC 9457) whose `code` is stable. An answer's `as_of` is the position in the log "
            "that it rests on; what a client wrote, it reads back."
        ),
        tags=_TAGS,
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="A token of `vmledger token create`, with the scope it needs.",
                )
            }
        ),
    )


def _add_field_texts(schemas: dict[str, Any]) -> None:
    known = _documented_classes()
    for name, schema in schemas.items():
        cls = known.get(name)
        if cls is None:
            continue
        texts = field_texts(cls)
        schema["description"] = inspect.cleandoc(cls.__doc__ or "")
        if issubclass(cls, Enum):
            schema["description"] += _member_list(cls, texts)
        for field, text in texts.items():
            if field in schema.get("properties", {}):
                schema["properties"][field]["description"] = text


def _documented_classes() -> dict[str, type]:
    return {
        name: cls
        for module in _DOCUMENTED
        for name, cls in vars(module).items()
        if inspect.isclass(cls)
        and issubclass(cls, msgspec.Struct | Enum)
        and cls.__module__ == module.__name__
    }


def _member_list(cls: type[Enum], texts: dict[str, str]) -> str:
    lines = [f"- `{member.value}`: {texts[member.name]}" for member in cls if member.name in texts]
    return "\n\n" + "\n".join(lines) if lines else ""


@cache
def field_texts(cls: type) -> dict[str, str]:
    """Give the strings that stand under the fields (or members) of a class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.partition(".")[0] in {"ledger", "projections", "vmledger"}:
            found |= dict(_texts_in(textwrap.dedent(inspect.getsource(base))))
    return found


def _texts_in(source: str) -> Iterator[tuple[str, str]]:
    (declaration,) = ast.parse(source).body
    assert isinstance(declaration, ast.ClassDef)
    for node, follower in pairwise(declaration.body):
        name = _field_name(node)
        if (
            name is not None
            and isinstance(follower, ast.Expr)
            and isinstance(follower.value, ast.Constant)
            and isinstance(follower.value.value, str)
        ):
            yield name, " ".join(follower.value.value.split()).replace("``", "`")


def _field_name(node: ast.stmt) -> str | None:
    target = node.target if isinstance(node, ast.AnnAssign) else None
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]  # type: ignore[assignment] # any expression; narrowed below
    return target.id if isinstance(target, ast.Name) else None
