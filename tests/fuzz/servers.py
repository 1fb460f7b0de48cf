"""A home in memory that answers what a fuzzer sends, at a time that stands still."""

from __future__ import annotations

import random

from ledger.configuration import Limits
from ledger.migration.home import Receiver
from ledger.migration.known_homes import load_homes
from ledger.migration.witness import Witness
from ledger.storage.group_commit import EventLog
from ledger.storage.server_stream import ServerStream
from tests.fuzz.values import NOW
from tests.support.sites import InPlace, Site


class StandingClock:
    """It is always the same moment, so that an input means the same at any time."""

    def now(self):
        return NOW

    def monotonic_s(self) -> float:
        return 0.0


def receiver_of(site: Site) -> Receiver:
    """Make the receiver of a site that does nothing else."""
    clock, offload = StandingClock(), InPlace()
    log = EventLog(site.disk.recorder, offload)
    return Receiver(
        identity=site.identity,
        homes=load_homes(site.disk.recorder, site.directory),
        log=log,
        blobs=site.disk.blobs,
        vault=site.make_vault(),
        clock=clock,
        offload=offload,
        rng=random.Random(1),
        limits=Limits(),
        witness=Witness(
            identity=site.identity,
            directory=site.directory,
            store=site.disk.checkpoints,
            server_stream=ServerStream(site.id, log, clock),
            clock=clock,
            offload=offload,
        ),
    )
