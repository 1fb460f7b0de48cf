"""Who may do what: scopes of access tokens, and the rule that each route of the HTTP API names.

A route names exactly one `AccessRule`; the application refuses to start with a route that names
none. An *owner* is bound to mailboxes and may do there what a user of the mailbox may; nothing
else. To listen to a message is more than to read about it: a `reader` sees every mailbox and hears
nothing.

Source: claim 14; RFC 6750 for how a token is presented.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec

from ledger.ids import MailboxAddress


class Scope(Enum):
    """What a token is for."""

    SWITCH = "switch"
    """A telephone system: reports calls and hands over recordings."""
    READER = "reader"
    """Monitoring and reports: reads everything but audio and the raw log, changes nothing."""
    OPERATOR = "operator"
    """The people who run the server: everything."""
    OWNER = "owner"
    """The user of the mailboxes that the token names."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whose token a request carried."""

    token_id: str
    name: str
    """Who or what the token was made for: recorded as ``by`` of what is done with it."""
    scopes: frozenset[Scope]
    mailboxes: frozenset[str] = frozenset()
    """``extension@context`` of each mailbox of an owner."""

    def owns(self, mailbox: MailboxAddress) -> bool:
        """Is this an owner of that mailbox?"""
        return Scope.OWNER in self.scopes and str(mailbox) in self.mailboxes


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Which tokens a route serves."""

    name: str
    """Stable word, shown in the documentation of the API."""
    scopes: frozenset[Scope]
    """Any one of them is enough."""
    is_open: bool = False
    """Served without any token."""
    is_for_owners: bool = False
    """Also served to an owner of the mailbox in the path."""

    def allows(self, principal: Principal, mailbox: MailboxAddress | None) -> bool:
        """Does this token open this route, for that mailbox if the path names one?"""
        if self.is_open or self.scopes & principal.scopes:
            return True
        return self.is_for_owners and mailbox is not None and principal.owns(mailbox)


OPEN = AccessRule("open", frozenset(), is_open=True)
"""For the one probe that says no more than that the server lives."""
ANY_TOKEN = AccessRule("any-token", frozenset(Scope))
"""For what every client of ours may know."""
TAKE_CALLS = AccessRule("take-calls", frozenset({Scope.SWITCH, Scope.OPERATOR}))
READ = AccessRule("read", frozenset({Scope.READER, Scope.OPERATOR}))
READ_MAILBOX = AccessRule(
    "read-mailbox", frozenset({Scope.READER, Scope.OPERATOR}), is_for_owners=True
)
USE_MAILBOX = AccessRule("use-mailbox", frozenset({Scope.OPERATOR}), is_for_owners=True)
"""Listen to messages and change them."""
SERVE_CALLERS = AccessRule(
    "serve-callers", frozenset({Scope.SWITCH, Scope.OPERATOR}), is_for_owners=True
)
"""What a telephone system needs to greet a caller, and to let an owner in by PIN."""
OPERATE = AccessRule("operate", frozenset({Scope.OPERATOR}))
