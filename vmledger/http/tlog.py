"""The log as the tools of public transparency logs read it: a signed checkpoint and static tiles.

The prefix of the log is `/v1/log/tlog`. Tiles of hashes tell nobody what happened, so that any
reader may mirror and check the tree; the events themselves are for operators.

Source: C2SP tlog-tiles and tlog-checkpoint.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Response, get
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from ledger.errors import NotFoundError
from ledger.events import AccessKind
from ledger.storage.tiles import TilePlace, bundle, parse_place, read_tile
from vmledger.access import OPERATE, READ, AccessRule
from vmledger.http.accesses import note_given
from vmledger.http.parameters import AuthenticatedRequest, Parts
from vmledger.http.routes import declare

_TEXT: Final = "text/plain"
_BYTES: Final = "application/octet-stream"
_FOR_EVER: Final = "private, max-age=31536000, immutable"
_A_MOMENT: Final = "private, max-age=2"


def _declare(access: AccessRule, description: str, media_type: str, *errors: int) -> dict[str, Any]:
    declared = declare(access, *errors)
    answer = ResponseSpec(
        data_container=bytes,
        description=description,
        media_type=media_type,
        generate_examples=False,
    )
    return declared | {"responses": declared["responses"] | {200: answer}}


@get(
    "/v1/log/tlog/checkpoint",
    tags=["log"],
    **_declare(READ, "A signed note of three lines.", _TEXT, 404),
)
async def get_signed_checkpoint(
    parts: Parts,
    is_witnessed: Annotated[
        bool,
        QueryParameter(
            name="witnessed", description="Rather the newest that the most servers co-signed."
        ),
    ] = False,
) -> Response[bytes]:
    """Give the head of the log, signed: its name, its size, its root (C2SP checkpoint).

    Under it are the signatures of the servers that co-signed just this one, as witnesses do. The
    newest event has seldom been witnessed yet: ask for a witnessed one to get their signatures.
    """
    cosigned = await parts.offload(parts.cosigned_log)
    note = cosigned.best() if is_witnessed else cosigned.head
    if note is None:
        raise NotFoundError("no other server has co-signed this log yet")
    return Response(note.to_text().encode(), media_type=_TEXT, headers={"Cache-Control": _A_MOMENT})


Level: Any = Annotated[int, PathParameter(ge=0, le=7, description="0 holds the leaves' hashes.")]
Place: Any = Annotated[
    str,
    PathParameter(
        max_length=100,
        description="Groups of three digits, `x001/067`, or a part: `x001/067.p/42`.",
    ),
]


@get(
    "/v1/log/tlog/tile/{level:int}/{place:path}",
    tags=["log"],
    **_declare(READ, "Hashes of 32 bytes, end to end.", _BYTES, 404),
)
async def get_tile(level: Level, place: Place, parts: Parts) -> Response[bytes]:
    """Give up to 256 consecutive hashes of one level of the Merkle tree."""
    wanted = parse_place(place.removeprefix("/"))
    recorder = parts.log.recorder
    hashes = await parts.offload(lambda: read_tile(level, wanted, recorder.read_hashes))
    return _for_ever(hashes)


@get(
    "/v1/log/tlog/tile/entries/{place:path}",
    tags=["log"],
    **_declare(OPERATE, "Events as recorded, each behind its length in two bytes.", _BYTES, 404),
)
async def get_entries(place: Place, request: AuthenticatedRequest, parts: Parts) -> Response[bytes]:
    """Give the events whose hashes are in a tile of level 0."""
    wanted = parse_place(place.removeprefix("/"))
    await note_given(parts, request, AccessKind.EXPORTED, "log")
    entries = await parts.log.read(wanted.first + 1, wanted.width, wanted.stop)
    _expect_all(len(entries), wanted)
    return _for_ever(bundle([entry.plain for entry in entries]))


def _expect_all(found: int, wanted: TilePlace) -> None:
    if found < wanted.width:
        raise NotFoundError(
            f"the log does not reach position {wanted.stop} yet; the checkpoint says how far it is"
        )


def _for_ever(data: bytes) -> Response[bytes]:
    return Response(data, media_type=_BYTES, headers={"Cache-Control": _FOR_EVER})
