"""Lets an ``Application`` of the eventsourcing library keep its events in a log of ours.

Its environment: ``PERSISTENCE_MODULE=ledger.storage.library_factory`` and ``LEDGER_URL``, a URL as
`open_recorder` takes it. Snapshots are not kept: our streams are short.

Source: claim 10.
"""

from __future__ import annotations

from typing import Final

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    NotSupportedError,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.utils import Environment, EnvType, get_topic

from ledger.errors import CallerError
from ledger.storage.mapper import LedgerMapper
from ledger.storage.open_recorder import open_recorder

LEDGER_URL: Final = "LEDGER_URL"


class LedgerFactory(InfrastructureFactory[TrackingRecorder]):
    """Gives the library one recorder for all its purposes."""

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        url = self.env.get(LEDGER_URL)
        if not url:
            raise CallerError(f"{LEDGER_URL} is not set; write it like sqlite:///ledger.sqlite")
        self.env.setdefault(self.MAPPER_TOPIC, get_topic(LedgerMapper))
        self._recorder = open_recorder(url)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        if purpose != "events":
            raise NotSupportedError(f"a log keeps events, not {purpose}")
        return self._recorder

    def application_recorder(self) -> ApplicationRecorder:
        return self._recorder

    def process_recorder(self) -> ProcessRecorder:
        return self._recorder

    def tracking_recorder(
        self, tracking_recorder_class: type[TrackingRecorder] | None = None
    ) -> TrackingRecorder:
        if tracking_recorder_class is not None:
            raise NotSupportedError("a log tracks by itself; it takes no other recorder")
        return self._recorder

    def close(self) -> None:
        self._recorder.close()
