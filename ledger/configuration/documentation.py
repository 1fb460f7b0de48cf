"""The documentation of each key, read from the docstrings beside its declaration.

Source: claims 6 and 13.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache

import msgspec

from ledger.configuration import schema
from ledger.configuration.schema import Section


@cache
def _documented_fields() -> dict[str, dict[str, str]]:
    """Read class -> field -> text from the source of the schema."""
    tree = ast.parse(inspect.getsource(schema))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {node.name: _fields_of(node) for node in classes}


def _fields_of(node: ast.ClassDef) -> dict[str, str]:
    texts: dict[str, str] = {}
    for field, after in zip(node.body, node.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            texts[field.target.id] = " ".join(str(after.value.value).split())
    return texts


def describe_key(section: type[Section], key: str) -> str:
    """Give the documentation of a key as one paragraph; empty for a table."""
    return _documented_fields()[section.__name__].get(key, "")


def describe_section(section: type[Section]) -> str:
    """Give the documentation of a table, one string with its paragraphs."""
    return inspect.getdoc(section) or ""


def default_of(field: msgspec.structs.FieldInfo) -> object:
    """Give a key's default; `msgspec.NODEFAULT` for one that must be given."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
