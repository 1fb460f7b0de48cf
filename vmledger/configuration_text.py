"""Write ``vmledger.toml``: every key with its documentation, defaults as comments.

Source: claims 6 and 13.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

import msgspec

from ledger.configuration import schema
from ledger.configuration.documentation import default_of, describe_key, describe_section
from ledger.configuration.schema import Section

_WIDTH = 96


def toml_value(value: object) -> str:
    """Write a value as TOML does."""
    if isinstance(value, Enum):
        return toml_value(value.value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    return repr(value)


def server_block(server: schema.Server) -> str:
    """Write one `[[servers]]` table, without comments."""
    return "\n".join(["[[servers]]", *_given(server)]) + "\n"


def _given(section: Section) -> Iterator[str]:
    """Give a line for each key that has another value than its default."""
    for field in msgspec.structs.fields(type(section)):
        value = getattr(section, field.name)
        if value != default_of(field):
            yield f"{field.name} = {toml_value(value)}"


def configuration_text(form: schema.ConfigurationFile) -> str:
    """Write a whole configuration file: what differs from the defaults is set, all is explained."""
    blocks: list[Iterable[str]] = [
        ["# The configuration of one server of the voicemail ledger."],
        _key("server", form.server, schema.ConfigurationFile, is_set=True),
        _key("data", form.data, schema.ConfigurationFile, is_set=True),
        _table("listen", form.listen),
        _table("store", form.store),
        _table("identity", form.identity),
        _servers(form),
        _table("calls", form.calls),
        _mailboxes(),
        _table("profiles", form.profiles),
        _table("replication", form.replication),
        _table("retention", form.retention),
        _table("limits", form.limits),
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _comment(text: str) -> Iterator[str]:
    for paragraph in text.replace("``", "").split("\n\n"):
        for line in textwrap.wrap(paragraph, _WIDTH, break_on_hyphens=False):
            yield f"# {line}"


def _key(key: str, value: object, section: type[Section], *, is_set: bool) -> Iterator[str]:
    yield from _comment(describe_key(section, key))
    shown = "..." if value is None else toml_value(value)
    yield f"{key} = {shown}" if is_set else f"# {key} = {shown}"


def _table(name: str, section: Section) -> Iterator[str]:
    yield from _comment(describe_section(type(section)))
    yield f"[{name}]"
    for field in msgspec.structs.fields(type(section)):
        value = getattr(section, field.name)
        yield from _key(field.name, value, type(section), is_set=value != default_of(field))


def _servers(form: schema.ConfigurationFile) -> Iterator[str]:
    yield from _documented_keys(schema.Server)
    for server in form.servers:
        if server is not None:
            yield ""
            yield server_block(server).rstrip()


def _mailboxes() -> Iterator[str]:
    yield from _documented_keys(schema.Mailboxes)
    example: Mapping[str, object] = {"extensions": ["2099"], "voicemail_for": ["no-answer"]}
    yield "#"
    yield "# [[mailboxes]]"
    yield from (f"# {key} = {toml_value(value)}" for key, value in example.items())


def _documented_keys(section: type[Section]) -> Iterator[str]:
    """Explain a repeatable table once, above its first instance."""
    yield from _comment(describe_section(section))
    for field in msgspec.structs.fields(section):
        yield from _comment(f"- {field.name}: {describe_key(section, field.name)}")
