"""A home in memory that answers what a fuzzer sends, at a time that stands still."""

from __future__ import annotations

import random

from ledger.configuration import Limits
from ledger.migration.home import Receiver
from ledger.migration.known_homes import load_homes
from ledger.storage.group_commit import EventLog
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
    offload = InPlace()
    return Receiver(
        identity=site.identity,
        homes=load_homes(site.disk.recorder, site.directory),
        log=EventLog(site.disk.recorder, offload),
        blobs=site.disk.blobs,
        clock=StandingClock(),
        offload=offload,
        rng=random.Random(1),
        limits=Limits(),
    )
