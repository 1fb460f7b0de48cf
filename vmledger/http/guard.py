"""The one gate of the API: whose token is it, and does this route serve it?

Every route names its `AccessRule` under ``access`` in its options. A route that names none is a
mistake of ours and answers nobody; `check_rules` finds it when the application is built.

Source: RFC 6750 sections 2.1 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from ledger.ids import MailboxAddress
from vmledger.access import AccessRule, Principal
from vmledger.http.parts import ApiParts
from vmledger.http.problems import ProblemError

REALM = 'Bearer realm="vmledger"'


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let a request through, or raise 401 or 403; leaves the principal as the request's user."""
    rule = handler.opt.get("access")
    if not isinstance(rule, AccessRule):
        raise ProblemError(HTTPStatus.FORBIDDEN, "forbidden", "this route is served to nobody")
    if rule.is_open:
        return
    parts: ApiParts = connection.app.state.parts
    principal = await authenticate(parts, connection.headers.get("authorization", ""))
    connection.scope["user"] = principal
    if not rule.allows(principal, _mailbox(connection)):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "forbidden",
            f"the token {principal.name!r} may not do this ({rule.name})",
            _who_may(rule),
            WWW_Authenticate=f'{REALM}, error="insufficient_scope"',
        )
    _expect_json(connection, handler)


async def authenticate(parts: ApiParts, authorization: str) -> Principal:
    """Say whose token an Authorization header carries; raises the 401 problem."""
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise _unauthenticated("the request carries no bearer token", REALM)
    token = token.strip()
    principal = parts.tokens.recall(token) or await parts.offload(
        lambda: parts.tokens.authenticate(token)
    )
    if principal is None:
        raise _unauthenticated(
            "the token is unknown, expired or revoked", f'{REALM}, error="invalid_token"'
        )
    return principal


def check_rules(handlers: Iterable[BaseRouteHandler]) -> None:
    """Refuse an application with a route that names no access rule."""
    for handler in handlers:
        if isinstance(handler, HTTPRouteHandler) and "access" not in handler.opt:
            raise AssertionError(f"route {sorted(handler.paths)} names no access rule")


def _unauthenticated(detail: str, challenge: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        detail,
        "send 'Authorization: Bearer <token>'; 'vmledger token create' makes one",
        WWW_Authenticate=challenge,
    )


def _mailbox(connection: ASGIConnection[Any, Any, Any, Any]) -> MailboxAddress | None:
    extension = connection.path_params.get("extension")
    if extension is None:
        return None
    contexts = connection.query_params.getall("context", ["default"])
    if len(contexts) > 1:
        # Which one counts must not depend on who reads it: the gate here, or the handler later.
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "bad-request",
            "context is given more than once",
            "give it once",
        )
    return MailboxAddress(extension, contexts[0])


def _expect_json(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    if not handler.opt.get("takes_json"):
        return
    media_type = connection.headers.get("content-type", "application/json").partition(";")[0]
    if media_type.strip().lower() != "application/json":
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            f"the body is {media_type}, and this route reads JSON",
            "send application/json",
        )


def _who_may(rule: AccessRule) -> str:
    words = [*sorted(scope.value for scope in rule.scopes)]
    owner = ["an owner of the mailbox"] if rule.is_for_owners else []
    return "use a token of " + " or ".join([*words, *owner])
