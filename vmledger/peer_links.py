"""The links to another server, as the configuration describes it."""

from __future__ import annotations

import os
import random

from ledger.clock import Clock
from ledger.configuration import Configuration, ServerEntry
from ledger.identity import load_identity
from ledger.migration.blocking_link import BlockingLink
from ledger.migration.http_link import HttpLink
from ledger.migration.http_terms import HttpTerms
from ledger.migration.tls import client_context
from ledger.offload import Offload


def open_link(config: Configuration, peer: ServerEntry, clock: Clock, offload: Offload) -> HttpLink:
    """Make the link to a server; it connects with its first exchange."""
    assert peer.certificate is not None, "the configuration refuses a peer without one"
    return HttpLink(
        _terms(config, peer, clock),
        tls=client_context(config.identity, peer.certificate),
        in_flight=config.replication.in_flight,
        offload=offload,
    )


def open_blocking_link(config: Configuration, peer: ServerEntry, clock: Clock) -> BlockingLink:
    """Make one for a process that does one thing at a time."""
    assert peer.certificate is not None, "the configuration refuses a peer without one"
    tls = client_context(config.identity, peer.certificate)
    return BlockingLink(_terms(config, peer, clock), tls=tls)


def _terms(config: Configuration, peer: ServerEntry, clock: Clock) -> HttpTerms:
    return HttpTerms(
        peer,
        identity=load_identity(config.server, config.identity.signing_key),
        settings=config.replication,
        clock=clock,
        rng=random.Random(os.urandom(16)),  # noqa: S311 - spreads retries, keeps no secret
    )
