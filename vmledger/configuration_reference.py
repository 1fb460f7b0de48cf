"""Print the reference page of ``vmledger.toml``, made from where its keys are declared.

``python -m vmledger.configuration_reference > docs/reference/configuration.md``

Source: claims 6 and 13.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import inspect as kinds

from ledger.configuration import schema
from ledger.configuration.documentation import default_of, describe_key, describe_section
from ledger.configuration.schema import Section
from vmledger.configuration_text import toml_value

INTRODUCTION = """\
# vmledger.toml

<!-- Made by `python -m vmledger.configuration_reference` from ledger/configuration/schema.py. -->

One file configures a server. It is read and checked once, when the server starts; a file in which
anything is doubtful is refused, with a line for every problem and what to do about it. `vmledger
config check` does the same without starting anything.

No environment variable changes a key: what a server does stands in this file and nowhere else.

In paths and store URLs `{data}` stands for the data directory. A relative path is relative to the
directory of the file.

## Who is home to an extension?

A claim is one extension (`4711`), a range of numbers with the same number of digits (`2000-2999`),
or a prefix (`30*`, which also covers `30` itself). Of all claims that cover an extension the
**narrowest** wins: the one that covers the fewest numbers of that length. So `2500-2599` at one
server makes an exception to `2000-2999` or `2*` at another, and `2550` to all of them. Where a
range and a prefix cover the same numbers, the range wins.

Two servers may not claim one extension when neither claim lies within the other, as `2000-2099` and
`2050-2199` do, or when both are the same. The file is then refused, with an extension that both
claim. Contexts never meet: `2001` in one has nothing to do with `2001` in another.
"""


def configuration_reference() -> str:
    """Give the page as Markdown."""
    return "\n".join([INTRODUCTION, *_sections()]).rstrip() + "\n"


def _sections() -> Iterator[str]:
    yield from _section("Above all tables", schema.ConfigurationFile)
    for field in msgspec.structs.fields(schema.ConfigurationFile):
        section, is_repeated = section_of(field.type)
        if section is not None:
            name = f"[[{field.name}]]" if is_repeated else f"[{field.name}]"
            yield from _section(f"`{name}`", section)


def section_of(annotation: object) -> tuple[type[Section] | None, bool]:
    """Give the table that a field holds, and whether the file may repeat it."""
    kind = kinds.type_info(annotation)
    is_repeated = isinstance(kind, kinds.VarTupleType)
    inner = kind.item_type if isinstance(kind, kinds.VarTupleType) else kind
    options = inner.types if isinstance(inner, kinds.UnionType) else (inner,)
    for option in options:
        if isinstance(option, kinds.StructType) and issubclass(option.cls, Section):
            return option.cls, is_repeated
    return None, False


def _section(title: str, section: type[Section]) -> Iterator[str]:
    yield f"## {title}\n"
    yield _markdown(describe_section(section)) + "\n"
    for field in msgspec.structs.fields(section):
        if section_of(field.type)[0] is None:
            yield f"### `{field.name}`\n"
            yield f"{describe_type(field.type)}. {_default(field)}\n"
            yield _markdown(describe_key(section, field.name)) + "\n"


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "Must be given."
    default = default_of(field)
    return "Default: not given." if default is None else f"Default: `{toml_value(default)}`."


def describe_type(annotation: object) -> str:
    """Say in words what a key holds."""
    text = _in_words(kinds.type_info(annotation))
    return text[0].upper() + text[1:]


def _in_words(kind: kinds.Type) -> str:
    match kind:
        case kinds.IntType():
            return f"whole number{_bounds(kind)}"
        case kinds.FloatType():
            return f"number{_bounds(kind)}"
        case kinds.StrType():
            return "text"
        case kinds.EnumType():
            return ", ".join(f"`{member.value}`" for member in kind.cls)
        case kinds.VarTupleType():
            return f"list of {_in_words(kind.item_type)}"
        case kinds.UnionType():
            some = [_in_words(t) for t in kind.types if not isinstance(t, kinds.NoneType)]
            return " or ".join(some)
    raise NotImplementedError(f"say in words what a {kind} is")


def _bounds(kind: kinds.IntType | kinds.FloatType) -> str:
    low = f"at least {kind.ge}" if kind.ge is not None else ""
    low = f"more than {kind.gt}" if kind.gt is not None else low
    high = f"at most {kind.le}" if kind.le is not None else ""
    bounds = " and ".join(bound for bound in (low, high) if bound)
    return f", {bounds}" if bounds else ""


if __name__ == "__main__":
    print(configuration_reference(), end="")
