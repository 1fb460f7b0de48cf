"""Parameters that several routes share, each described once."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias
from uuid import UUID

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import FromPath, PathParameter, QueryParameter

from ledger.ids import MAX_NAME_LENGTH
from vmledger.access import Principal
from vmledger.http.parts import ApiParts

Parts: TypeAlias = NamedDependency[ApiParts]
Id: TypeAlias = FromPath[UUID]
Extension: TypeAlias = Annotated[
    str, PathParameter(max_length=MAX_NAME_LENGTH, description="The mailbox's extension.")
]
Context: TypeAlias = Annotated[
    str, QueryParameter(max_length=MAX_NAME_LENGTH, description="The extension's dial plan.")
]
PageLimit: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=1000, description="How many at most.")
]
Cursor: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=200, description="`next` of the page before this one.")
]
AuthenticatedRequest: TypeAlias = Request[Principal, Any, Any]
