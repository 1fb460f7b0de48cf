"""What the API records of who looked: before sound or an export is given, and when lists are.

Source: claim 10.
"""

from __future__ import annotations

import logging
from typing import Final
from uuid import UUID

from ledger.errors import LedgerError
from ledger.events import AccessKind
from ledger.ids import MailboxAddress
from ledger.server.accesses import Access
from vmledger.access import Principal, Scope
from vmledger.http.parameters import AuthenticatedRequest
from vmledger.http.parts import ApiParts

USER_HEADER: Final = "vmledger-user"
"""Who is logged in where the command line runs."""
_MOST_CHARACTERS: Final = 100
_LOG: Final = logging.getLogger(__name__)


async def note_given(
    parts: ApiParts,
    request: AuthenticatedRequest,
    kind: AccessKind,
    what: str,
    *,
    mailbox: MailboxAddress | None = None,
    message_id: UUID | None = None,
) -> None:
    """Record that sound or an export is about to be given; raises when that cannot be done."""
    await parts.server.accesses.record(_access(request, kind, what, mailbox, message_id))


async def note_viewed(
    parts: ApiParts,
    request: AuthenticatedRequest,
    what: str,
    *,
    mailbox: MailboxAddress | None = None,
    message_id: UUID | None = None,
) -> None:
    """Record that somebody else than the owner is shown what is personal.

    When that cannot be recorded it is shown all the same: whoever watches the server needs that
    most when something is wrong with it. The server's output tells of it then.
    """
    if mailbox is not None and _is_only_owner(request.user):
        return
    access = _access(request, AccessKind.VIEWED, what, mailbox, message_id)
    try:
        await parts.server.accesses.record(access)
    except LedgerError as error:
        _LOG.error("action=access-not-recorded by=%s what=%s error=%s", access.by, what, error)


def _is_only_owner(principal: Principal) -> bool:
    return principal.scopes == {Scope.OWNER}


def _access(
    request: AuthenticatedRequest,
    kind: AccessKind,
    what: str,
    mailbox: MailboxAddress | None,
    message_id: UUID | None,
) -> Access:
    user = request.headers.get(USER_HEADER, "")[:_MOST_CHARACTERS]
    return Access(
        kind=kind,
        what=what,
        by=request.user.name,
        token_id=request.user.token_id,
        address=request.client.host if request.client is not None else None,
        user=user if user.isprintable() and user else None,
        mailbox=str(mailbox) if mailbox is not None else None,
        message_id=message_id,
    )
