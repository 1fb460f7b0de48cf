"""Where mailboxes live now: the configuration, and over it what the log knows of moves.

A mailbox that was never re-homed lives where the configuration says. Once it was, the configuration
no longer matters for it: the highest epoch counts that the log tells of, and of equal epochs the
higher name of a home, so that every server that knows the same events names the same home.

There is one such object a server; whoever needs a mailbox's home asks it. It reads no log: it is
given the events that name homes, all at the start and each when it is committed.

Source: claims 6, 9 and 13.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ledger.configuration.directory import Directory, ServerEntry
from ledger.errors import CallerError
from ledger.events import DomainEvent, Epoch, OpaqueEvent, ServerId
from ledger.ids import MailboxAddress
from ledger.mailbox import HomeClaim, home_claim_of


class Homes:
    """The home of every mailbox, by configuration and log. Grows by `learn`; any thread may ask."""

    def __init__(
        self, directory: Directory, events: Iterable[DomainEvent | OpaqueEvent] = ()
    ) -> None:
        self.directory = directory
        """What the configuration says."""
        self._claims: dict[str, HomeClaim] = {}
        for event in events:
            self.learn(event)

    @property
    def this_server(self) -> ServerId:
        """This server's id."""
        return self.directory.this_server

    @property
    def rehomed(self) -> Mapping[str, HomeClaim]:
        """The mailboxes whose home the log names, and under which epoch."""
        return self._claims

    def home_of(self, mailbox: MailboxAddress) -> ServerEntry | None:
        """Give the home of a mailbox, or None when no server is.

        A home that the configuration does not name (any more, or not yet) cannot be reached: then
        the configuration's claim stands in. Nothing is lost by that: the one asked refuses what is
        not its own, and the message is held until the configuration is mended.
        """
        claim = self._claims.get(str(mailbox))
        if claim is not None and claim.home in self.directory.servers:
            return self.directory.servers[claim.home]
        return self.directory.home_of(mailbox)

    def name_of_home(self, mailbox: str) -> ServerId | None:
        """Give the id of the home of ``extension@context``; None also for what is no such name."""
        try:
            home = self.home_of(MailboxAddress.parse(mailbox))
        except CallerError:
            return None
        return home.id if home is not None else None

    def is_ours(self, mailbox: str) -> bool:
        """Is this server home to the mailbox?"""
        return self.name_of_home(mailbox) == self.this_server

    def epoch_of(self, mailbox: str) -> Epoch:
        """Give the epoch of the present home: 1 while the configuration's counts."""
        claim = self._claims.get(mailbox)
        return claim.epoch if claim is not None else 1

    def learn(self, event: DomainEvent | OpaqueEvent) -> bool:
        """Take note of a committed event; True when it names another home than was known."""
        claim = home_claim_of(event)
        if claim is None:
            return False
        known = self._claims.get(claim.mailbox)
        if known is not None and (known.epoch, known.home) >= (claim.epoch, claim.home):
            return False
        self._claims[claim.mailbox] = claim
        return True

    def after(self, events: Iterable[DomainEvent | OpaqueEvent]) -> Homes:
        """Give what is known once these events are committed too; this object stays as it is."""
        later = Homes(self.directory)
        later._claims = dict(self._claims)
        for event in events:
            later.learn(event)
        return later
