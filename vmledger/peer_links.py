"""The link to another server, as the configuration describes it."""

from __future__ import annotations

import os
import random

from ledger.clock import Clock
from ledger.configuration import Configuration, ServerEntry
from ledger.identity import load_identity
from ledger.migration.http_link import HttpLink
from ledger.migration.tls import client_context
from ledger.offload import Offload


def open_link(config: Configuration, peer: ServerEntry, clock: Clock, offload: Offload) -> HttpLink:
    """Make the link to a server; it connects with its first exchange."""
    assert peer.certificate is not None, "the configuration refuses a peer without one"
    return HttpLink(
        peer,
        identity=load_identity(config.server, config.identity.signing_key),
        tls=client_context(config.identity, peer.certificate),
        settings=config.replication,
        clock=clock,
        offload=offload,
        rng=random.Random(os.urandom(16)),  # noqa: S311 - spreads retries, keeps no secret
    )
