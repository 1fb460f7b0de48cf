"""Hypothesis strategies made from the declared types of the events, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

import msgspec.inspect as types
from hypothesis import strategies as st

from ledger.events import EVENT_CLASSES, Event

_INT64 = (1 << 63) - 1


def any_event() -> st.SearchStrategy[Event]:
    """Any event of any known kind that its declaration allows."""
    return st.one_of([of_struct(cls) for cls in EVENT_CLASSES.values()])


def of_struct(cls: type) -> st.SearchStrategy[Any]:
    """Any valid instance of this msgspec struct."""
    fields = types.type_info(cls).fields
    return st.builds(cls, **{field.name: _of_type(field.type) for field in fields})


def _of_type(kind: types.Type) -> st.SearchStrategy[Any]:
    make = _STRATEGIES.get(type(kind))
    assert make is not None, f"no strategy for {kind}; add one to _STRATEGIES"
    return make(kind)


def _of_text(kind: types.StrType) -> st.SearchStrategy[str]:
    return st.text() if kind.pattern is None else st.from_regex(kind.pattern, fullmatch=True)


_STRATEGIES: dict[type[types.Type], Callable[[Any], st.SearchStrategy[Any]]] = {
    types.BoolType: lambda _: st.booleans(),
    types.DateTimeType: lambda _: st.datetimes(timezones=st.just(UTC)),
    types.EnumType: lambda kind: st.sampled_from(list(kind.cls)),
    types.IntType: lambda kind: st.integers(-_INT64 if kind.ge is None else kind.ge, _INT64),
    types.ListType: lambda kind: st.lists(_of_type(kind.item_type), max_size=3),
    types.LiteralType: lambda kind: st.sampled_from(kind.values),
    types.Metadata: lambda kind: _of_type(kind.type),
    types.NoneType: lambda _: st.none(),
    types.StrType: _of_text,
    types.StructType: lambda kind: of_struct(kind.cls),
    types.UnionType: lambda kind: st.one_of([_of_type(member) for member in kind.types]),
    types.UUIDType: lambda _: st.uuids(),
    types.VarTupleType: lambda kind: st.lists(_of_type(kind.item_type), max_size=3).map(tuple),
}
