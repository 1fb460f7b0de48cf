"""The mailboxes' tables of a simulated server, built in SQL, against their replay."""

from __future__ import annotations

import tempfile

from ledger.clock import SystemClock
from projections.mailboxes import MAILBOXES
from projections.replay import mailboxes_digest, projected_mailboxes_digest
from projections.runner import ProjectionRunner
from projections.store import ProjectionStore
from tests.simulation.server import Machine


def tables_equal_replay(machine: Machine) -> bool:
    """Project a machine's log a few events at a time, and compare with a replay from nothing."""
    recorder = machine.reader
    with tempfile.TemporaryDirectory(prefix="tables-") as folder:
        store = ProjectionStore(f"sqlite:///{folder}/projections.sqlite", machine.id)
        try:
            runner = ProjectionRunner(
                recorder, store, [MAILBOXES], clock=SystemClock(), page_events=3
            )
            runner.catch_up()
            projected, position = projected_mailboxes_digest(store)
        finally:
            store.close()
    is_all = position == recorder.head().position
    return is_all and projected == mailboxes_digest(recorder, machine.id)
