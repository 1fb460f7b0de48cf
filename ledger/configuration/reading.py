"""From parsed TOML to typed sections, field by field, so that every problem is found in one go.

Source: claims 6 and 13.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from typing import Any, Final, TypeGuard, TypeVar, get_args, get_origin

import msgspec
from msgspec import inspect as kinds

from ledger.configuration.documentation import describe_key
from ledger.configuration.problems import KeyPath, Problems, show_path
from ledger.configuration.schema import Section

AnySection = TypeVar("AnySection", bound=Section)

_FAULT_PLACE: Final = re.compile(r" - at `\$((?:\[\d+\])*)`$")
_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
"""The decoder's names of types, in the operator's words."""


def read_section(
    section: type[AnySection], table: object, path: KeyPath, problems: Problems
) -> AnySection | None:
    """Read one table; None when a needed key is missing or wrong.

    An optional key that is wrong is noted and keeps its default, so that the checks that follow can
    look at the rest. The caller gives up in the end because of what was noted.
    """
    if not isinstance(table, dict):
        problems.add(path, f"is {_kind(table)} and not a table", f"write [{show_path(path)}]")
        return None
    fields = {field.encode_name: field for field in msgspec.structs.fields(section)}
    for key in table.keys() - fields.keys():
        problems.add((*path, key), "there is no such key", _suggest(key, list(fields)))
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in table:
            value = _read_value(section, field, table[key], (*path, key), problems)
            if value is not None:
                values[key] = value
        elif field.required:
            problems.add((*path, key), "is missing", f"add it. {_meaning(section, key)}")
    is_whole = all(key in values for key, field in fields.items() if field.required)
    return section(**values) if is_whole else None


def _read_value(
    section: type[Section],
    field: msgspec.structs.FieldInfo,
    value: object,
    path: KeyPath,
    problems: Problems,
) -> Any:
    """Read one value; None when it is wrong."""
    if _is_section(field.type):
        return read_section(field.type, value, path, problems)
    element = _section_of_array(field.type)
    if element is not None:
        return _read_array(element, value, path, problems)
    if isinstance(value, float) and not math.isfinite(value):
        problems.add(path, "is not a finite number", _correct(section, field))
        return None
    try:
        return msgspec.convert(value, field.type)
    except (msgspec.ValidationError, OverflowError) as error:
        what, inside = _fault(str(error))
        problems.add((*path, *inside), what, _correct(section, field, what))
        return None


def _read_array(
    element: type[Section], value: object, path: KeyPath, problems: Problems
) -> tuple[Section | None, ...]:
    """Read a list of tables; one that cannot be read leaves a None, so that places stay right."""
    if not isinstance(value, list):
        problems.add(path, f"is {_kind(value)} and not a list of tables", f"write [[{path[-1]}]]")
        return ()
    return tuple(read_section(element, item, (*path, n), problems) for n, item in enumerate(value))


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return inspect.isclass(kind) and issubclass(kind, Section)


def _section_of_array(kind: Any) -> type[Section] | None:
    """Give the section of ``tuple[Section | None, ...]``; None for any other type."""
    element = get_args(kind)[0] if get_origin(kind) is tuple else None
    return next((option for option in get_args(element) if _is_section(option)), None)


def _fault(message: str) -> tuple[str, KeyPath]:
    """Split the decoder's message into what is wrong, in plain words, and where in the value."""
    found = _FAULT_PLACE.search(message)
    inside = tuple(int(n) for n in re.findall(r"\d+", found[1])) if found else ()
    what = message[: found.start()] if found else message
    what = re.sub(r"`(\w+)`", lambda name: _WORDS.get(name[1], name[1]), what)
    return what[:1].lower() + what[1:].replace("`", ""), inside


def _correct(section: type[Section], field: msgspec.structs.FieldInfo, what: str = "") -> str:
    """Say what to do about a wrong value: the likeliest right word, and what the key means."""
    words = _words_of(kinds.type_info(field.type))
    wrong = what.removeprefix("invalid enum value ").strip("'")
    close = difflib.get_close_matches(wrong, words, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else "correct it."
    choice = f" The words are {', '.join(words)}." if words else ""
    return f"{remedy}{choice} {_meaning(section, field.name)}"


def _words_of(kind: kinds.Type) -> list[str]:
    """Give the words that a key takes, or a list of them; empty for any other type."""
    match kind:
        case kinds.EnumType():
            return [str(member.value) for member in kind.cls]
        case kinds.VarTupleType():
            return _words_of(kind.item_type)
        case kinds.UnionType():
            return [word for option in kind.types for word in _words_of(option)]
    return []


def _meaning(section: type[Section], key: str) -> str:
    return describe_key(section, key).replace("``", "")


def _suggest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"remove it; the keys here are {', '.join(known)}"


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "a table" if isinstance(value, dict) else "a date or time")
