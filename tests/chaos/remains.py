"""What real servers left on their disks, as the checkers of the simulation look at it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from ledger.configuration import Configuration
from ledger.configuration.master_key import open_master_key
from ledger.errors import CorruptionError
from ledger.identity import verify_signature
from ledger.ids import MailboxAddress, mailbox_stream_id
from ledger.storage.memory import LogImage
from ledger.storage.merkle import Frontier, frontier_at, leaf_hash
from ledger.storage.open_blob_store import blob_directory, open_blob_store
from ledger.storage.open_recorder import open_recorder
from ledger.storage.recorder import Head
from ledger.storage.vault import Vault
from projections.store import ProjectionStore
from tests.chaos.cluster import Cluster
from tests.simulation.checkers import Findings
from tests.simulation.layout import Layout
from tests.simulation.promises import Told
from tests.simulation.remains import Remains
from tests.support.running import Bench, replayed
from vmledger.verification import verify_log

_PAGE = 2000


class StoredMachine:
    """One server's stores, read beside it or after it."""

    def __init__(self, config: Configuration) -> None:
        self.id = config.server
        self.config = config
        self.identity = SimpleNamespace(public_key=config.directory.entry(self.id).public_key)
        self.verify = verify_signature
        self.named_missing: frozenset[str] = frozenset()
        self.reader = open_recorder(config.stores.events)
        self.image = LogImage(Head(self.reader.head().incarnation, Frontier()))
        self._blobs = open_blob_store(config.stores.blobs)
        self._spool = config.data / "spool"
        master = open_master_key(config.identity)
        self.vault = Vault(self.reader, master, os.urandom)

    def refresh(self) -> None:
        """Read what the log has got since."""
        image = self.image
        read_to = image.entries[-1].position if image.entries else 0
        while page := self.reader.read(read_to + 1, _PAGE):
            read_to = page[-1].position
            for entry in page:
                image.entries.append(entry)
                image.streams.setdefault(entry.originator_id, []).append(entry)
                image.frontiers.append(image.frontiers[-1].append([leaf_hash(entry.plain)]))
        # Of the hashes that the log keeps, not of its events: the checkers compare the two.
        try:
            kept = frontier_at(len(image.entries), self.reader.read_hashes)
        except CorruptionError:
            kept = Frontier()  # the tree of no events: `logs_are_whole` tells of it
        image.head = Head(self.reader.head().incarnation, kept)

    def read_blob(self, digest: str) -> bytes:
        location = self.reader.locate_blobs([digest]).get(digest)
        return self._blobs.get(digest, location)

    def is_rotten(self, blob: str) -> bool:
        return False

    def believed_homes(self) -> None:
        return None

    def recordings_in_spool(self) -> list[Path]:
        return list(self._spool.glob("*.zst"))

    def recordings_set_aside(self) -> Iterator[bytes]:
        for path in self._spool.glob("set-aside/*"):
            yield path.read_bytes()

    def loose_blobs(self) -> Iterator[tuple[str, bytes]]:
        directory = blob_directory(self.config.stores.blobs)
        assert directory is not None, "recordings lie in files"
        for path in directory.glob("??/*"):
            yield path.parent.name + path.name, path.read_bytes()

    def close(self) -> None:
        self.reader.close()


class RealRemains(Remains):
    """The stores of a cluster."""

    def __init__(self, cluster: Cluster, told: Told) -> None:
        super().__init__()
        self.told = told
        self.layouts_used.append(Layout(len(cluster.servers)))
        self.machines: dict[str, Any] = {
            server: StoredMachine(config) for server, config in cluster.configs.items()
        }

    def refresh(self) -> None:
        for machine in self.machines.values():
            machine.refresh()

    def note_profile_streams(self, extensions: tuple[str, ...]) -> None:
        """What is kept for these streams is a greeting or a PIN, and nothing that a caller said."""
        for machine in self.machines.values():
            incarnation = machine.image.head.incarnation
            self.told.no_calls |= {
                mailbox_stream_id(MailboxAddress(extension), machine.id, incarnation)
                for extension in extensions
            }

    def close(self) -> None:
        for machine in self.machines.values():
            machine.close()


def nothing_is_pending(remains: RealRemains) -> Findings:
    """Nothing waits, is held or is missing."""
    arrived: set[UUID] = set()
    for name in remains.machines:
        view = remains.view(name)
        arrived |= view.delivered_calls
        for message_id in view.waiting():
            yield f"message {message_id} still waits at {name}"
        for message_id in view.refused:
            yield f"message {message_id} is held at {name}"
    for call_id in remains.told.accepted.keys() - arrived:
        yield f"the message of call {call_id} is at no home"


def logs_verify(remains: RealRemains) -> Findings:
    """As ``vmledger log verify`` finds them: tree, kept nodes, streams, receipts."""
    keys = {name: machine.identity.public_key for name, machine in remains.machines.items()}
    for name, machine in remains.machines.items():
        found = verify_log(machine.reader, server=name, keys=keys)
        if found.position != len(machine.image.entries):
            yield f"{name} has {found.position} events, {len(machine.image.entries)} were read"
        for finding in found.findings:
            yield f"{name}: {finding.place}: {finding.what}"


def read_models_equal_a_replay(remains: RealRemains) -> Findings:
    """What the servers have projected while they were killed, against a fold of the whole log."""
    for name, machine in remains.machines.items():
        store = ProjectionStore(machine.config.stores.projections, name)
        try:
            stored, positions = Bench(store).contents(), Bench(store).positions()
        finally:
            store.close()
        # Caught up while it settled; that its peers stopped a moment before it may be left.
        wanted = replayed(machine.reader, name, positions)
        for table in sorted(stored.keys() | wanted.keys()):
            if stored.get(table) != wanted.get(table):
                yield f"{table} of {name} is not what its log says"


CHECKERS = (nothing_is_pending, logs_verify, read_models_equal_a_replay)
