"""What every route of the API declares besides its path: who may, and which errors it answers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from litestar.openapi import ResponseSpec

from vmledger.access import AccessRule
from vmledger.http.problems import PROBLEM_MEDIA_TYPE, Problem

_MEANINGS: Final[dict[int, str]] = {
    400: "The request is not valid; `errors` names the fields.",
    401: "No token, or one that is unknown, expired or revoked.",
    403: "The token may not do this.",
    404: "There is no such thing here.",
    406: "The recording cannot be made into what `Accept` asks for.",
    409: "It contradicts what is recorded, or another server answers for it.",
    413: "More than this server takes.",
    415: "The body is not JSON.",
    416: "The range begins after the end.",
    422: "The audio cannot be taken; `detail` says why, and where a message's is set aside.",
    429: "Too many wrong PINs; the next one is taken after `Retry-After` seconds.",
    501: "Reserved; not available in this version.",
    503: "It did not work now; repeat it after `Retry-After` seconds.",
}


def declare(access: AccessRule, *errors: int, takes_json: bool = False) -> dict[str, Any]:
    """Give the declarations of one route, for its decorator."""
    statuses = set(errors) | {400, 503}
    if not access.is_open:
        statuses |= {401, 403}
    if takes_json:
        statuses |= {413, 415}
    return {
        "opt": {"access": access, "takes_json": takes_json},
        "responses": {status: _problem(status) for status in sorted(statuses)},
        "security": [] if access.is_open else [{"bearer": [access.name]}],
    }


def _problem(status: int) -> ResponseSpec:
    return ResponseSpec(
        data_container=Problem,
        description=_MEANINGS.get(status, HTTPStatus(status).phrase),
        media_type=PROBLEM_MEDIA_TYPE,
        generate_examples=False,
    )
