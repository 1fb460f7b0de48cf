"""The first page of a mailbox with 10 000 messages among 1 000 000, through the HTTP API.

A real server process on SQLite, on a real socket; one page is its counts and 100 messages,
through authentication, the read model, 100 callers that are opened, JSON and HTTP over a connection
that stays open. The rows are written into the read model's own tables in bulk, because a million
calls would only take time; the log holds none of them. Baseline, alternating with it in the same
run: a bare SELECT of the same 100 rows through `sqlite3` in the process that asks, which decodes
nothing and travels nowhere.

Goal: median below 10 ms.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from benchmarks.call_latency import Switch
from benchmarks.report import report
from ledger.caller import seal_caller
from ledger.configuration import Configuration, load_configuration
from ledger.events import Caller
from ledger.sealing import MessageKey, load_master_key
from ledger.storage.event_log import Append
from ledger.storage.open_recorder import open_recorder
from ledger.storage.vault import Vault
from projections.builds import build_tables
from projections.bulk import BulkWriter
from projections.mailboxes import MAILBOXES, MESSAGE, EntryStatus, MailboxEntry
from projections.records import to_row
from projections.store import ProjectionStore
from tests.support.processes import Servers, free_ports
from vmledger.cluster import write_cluster

MESSAGES = 1_000_000
IN_MAILBOX = 10_000
MAILBOX = "1001@default"
LIMIT = 100
ROUNDS = 300
CHUNK = 20_000
GOAL_MS = 10.0
_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def entries(keys: dict[UUID, MessageKey]) -> Iterator[MailboxEntry]:
    """Give the messages: every hundredth lies in the mailbox that is asked for.

    Those have callers that the server has to open, each with a key of its own.
    """
    every = MESSAGES // IN_MAILBOX
    for number in range(MESSAGES):
        mailbox = MAILBOX if number % every == 0 else f"{1002 + number % 900}@default"
        at = _NOON + timedelta(seconds=number)
        call_id = UUID(int=MESSAGES + number + 1)
        caller = Caller(number=f"+4930{number:07}")
        yield MailboxEntry(
            message_id=UUID(int=number + 1),
            call_id=call_id,
            mailbox=mailbox,
            origin="bravo",
            home="alpha",
            custody="alpha",
            is_listed=True,
            is_pending=False,
            is_recovered=False,
            status=EntryStatus.NEW,
            status_before_deletion=EntryStatus.NEW,
            received_at=at,
            delivered_at=at,
            heard_at=None,
            heard_by=None,
            caller=seal_caller(caller, keys[call_id], os.urandom) if call_id in keys else caller,
            duration_ms=12_000,
            codec="pcmu",
            sample_rate_hz=8000,
            blob=f"{number:064x}",
            blob_size_bytes=90_000,
            audio_digest=f"{number:064x}",
            audio_size_bytes=96_000,
            position=number + 1,
            changed_position=number + 1,
        )


def make_keys(config: Configuration) -> dict[UUID, MessageKey]:
    """Keep a key in the server's database for each message that the mailbox holds."""
    recorder = open_recorder(config.stores.events)
    vault = Vault(recorder, load_master_key(config.identity.master_key), os.urandom)
    every = MESSAGES // IN_MAILBOX
    made = [vault.new_key(UUID(int=MESSAGES + n + 1)) for n in range(0, MESSAGES, every)]
    recorder.commit([Append([], keys=[wrapped for _, wrapped in made])])
    recorder.close()
    return {key.key_id: key for key, _ in made}


def fill(store: ProjectionStore, keys: dict[UUID, MessageKey]) -> str:
    """Write all rows and the counts of the mailbox; gives the name of the table."""
    (build,) = store.builds(MAILBOXES.name)
    tables = build_tables(MAILBOXES, build.prefix)
    table, counts = tables.tables[MESSAGE.name], tables.tallies[MESSAGE.name]
    writers = MESSAGE.writers(store.dialect)
    chunk: list[list[object]] = []
    with store.writing() as connection:
        bulk = BulkWriter(connection, table)
        for entry in entries(keys):
            chunk.append(to_row(entry, writers))
            if len(chunk) == CHUNK:
                bulk.insert(chunk)
                chunk.clear()
        bulk.insert(chunk)
        row = {"mailbox": MAILBOX, "new": IN_MAILBOX, "heard": 0, "saved": 0}
        connection.execute(counts.insert().values(**row, deleted=0, pending=0))
    return table.name


def main(directory: Path) -> None:
    api, replication = free_ports(2)
    (file,) = write_cluster(
        directory, ["alpha"], {"alpha": ["1000-1999"]}, {"alpha": (api, replication)}
    )
    config = load_configuration(file)
    with Servers([file]) as servers:
        servers.start_all()
        store = ProjectionStore(config.stores.projections, config.server)
        began_s = time.perf_counter()
        table = fill(store, make_keys(config))
        store.close()
        print(f"{MESSAGES:,} messages written in {time.perf_counter() - began_s:.0f} s")
        switch = Switch(servers["alpha"])
        bare = sqlite3.connect(config.stores.projections.removeprefix("sqlite:///"))
        # As in a server that has run for a while: the rows lie in the database, not in its WAL.
        bare.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = (
            f"SELECT * FROM {table} WHERE mailbox = ? AND is_listed = 1 "
            "ORDER BY received_at DESC, message_id DESC LIMIT ?"
        )
        page_ms, bare_ms = [], []
        for _ in range(ROUNDS):
            began_s = time.perf_counter()
            shown = switch.get(f"/v1/mailboxes/1001?limit={LIMIT}")
            page_ms.append((time.perf_counter() - began_s) * 1000)
            began_s = time.perf_counter()
            rows = bare.execute(query, (MAILBOX, LIMIT)).fetchall()
            bare_ms.append((time.perf_counter() - began_s) * 1000)
        bare.close()
    if shown["counts"]["new"] != IN_MAILBOX or len(shown["messages"]) != len(rows) != LIMIT:
        raise RuntimeError(f"the page is not what was written: {shown['counts']}")
    report(
        "mailbox_page",
        statistics.median(page_ms),
        "ms",
        "a bare SELECT of the same rows",
        statistics.median(bare_ms),
        GOAL_MS,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
