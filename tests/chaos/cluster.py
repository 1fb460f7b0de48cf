"""Three real servers on this machine, and everything around them that can be made to fail.

alpha and charlie keep their logs in SQLite, bravo in a PostgreSQL of its own. Each server's data
lies on a disk of its own, each has its own wall clock, and each reaches each other one, and the
switch each server, by a way that can be cut.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.clock import SystemClock
from ledger.configuration import Configuration, load_configuration
from tests.chaos.disk import ShrinkingDisk, copy_out
from tests.chaos.postgres import MortalPostgres, wait_until_taken
from tests.chaos.proxy import Network, Way
from tests.chaos.wall_clock import WallClock
from tests.support.mounted_disk import mounted_disk
from tests.support.pair import set_keys
from tests.support.processes import SERVE, ServerProcess, free_ports
from vmledger.access import Scope
from vmledger.cluster import write_cluster
from vmledger.stores import open_tokens

SERVERS = ("alpha", "bravo", "charlie")
ON_POSTGRES = "bravo"
USERS = tuple(f"user-{number:02}" for number in range(16))
"""Whose tokens act on messages: each acts on a message once, so each deed is recognized."""
DISK_BYTES = 1 << 30
MIB = 1 << 20
SETTINGS = {
    "probe_interval_s": 1,
    "fresh_for_s": 2,
    "backoff_max_s": 4,
    "request_timeout_s": 10,
    "batch_max_messages": 16,
    "recording_grace_s": 5,
    "body_timeout_s": 15,
    "min_free_disk_bytes": 2 * MIB,
    "min_free_disk_for_batches_bytes": 6 * MIB,
    "log_reserve_bytes": 4 * MIB,
}


class Cluster:
    """The servers and what lies around them. Made by `running_cluster`."""

    def __init__(self, folder: Path, network: Network, postgres: MortalPostgres) -> None:
        self.folder = folder
        self.network = network
        self.postgres = postgres
        self.configs: dict[str, Configuration] = {}
        self.servers: dict[str, ServerProcess] = {}
        self.disks: dict[str, ShrinkingDisk] = {}
        self.clocks: dict[str, WallClock] = {}
        self.tokens: dict[str, dict[str, str]] = {}
        """By server and user."""
        self.missing: list[str] = []
        """What could not be set up here."""

    def way(self, start: str, end: str) -> Way:
        return self.network.ways[f"{start}-{end}"]

    def data(self, server: str) -> Path:
        return self.configs[server].data

    def keep(self) -> Path:
        """Copy what stands on disks in memory to the run's folder; gives the place."""
        for server in self.disks:
            copy_out(self.data(server), self.folder / f"{server}-data-kept")
        return self.folder


@contextlib.contextmanager
def running_cluster(folder: Path, seed: int) -> Iterator[Cluster]:
    """Make the servers, not started yet; at the end none of them runs."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(seed))
        postgres = MortalPostgres(folder)
        stack.callback(postgres.stop)
        cluster = Cluster(folder, network, postgres)
        ports = free_ports(2 * len(SERVERS))
        of_each = {server: (ports[2 * n], ports[2 * n + 1]) for n, server in enumerate(SERVERS)}
        homes = {server: [f"{n}*"] for n, server in enumerate(SERVERS, 1)}
        for file in write_cluster(folder, SERVERS, homes, of_each, now=SystemClock().now()):
            _configure(cluster, file, of_each)
        for server, (api, _) in of_each.items():
            network.add(f"switch-{server}", api)
        postgres.start()
        wait_until_taken(postgres)
        for server in SERVERS:
            _mount(cluster, stack, server)
            _prepare(cluster, server)
            stack.callback(cluster.servers[server].kill9)
        yield cluster


def _configure(cluster: Cluster, file: Path, ports: dict[str, tuple[int, int]]) -> None:
    """Set a server's file: short pauses, its store, and the ways to its peers."""
    server = file.parent.name
    set_keys(file, **SETTINGS)
    if server == ON_POSTGRES:
        set_keys(file, events=cluster.postgres.url)
    text = file.read_text()
    for peer, (_, port) in ports.items():
        if peer != server:
            way = cluster.network.add(f"{server}-{peer}", port)
            text = text.replace(f"https://127.0.0.1:{port}", f"https://127.0.0.1:{way.port}")
    file.write_text(text)
    cluster.configs[server] = load_configuration(file)


def _mount(cluster: Cluster, stack: contextlib.ExitStack, server: str) -> None:
    try:
        disk = stack.enter_context(mounted_disk(cluster.data(server), DISK_BYTES))
    except pytest.skip.Exception as why:
        cluster.missing.append(f"full disks ({why})")
        return
    cluster.disks[server] = ShrinkingDisk(disk, DISK_BYTES)


def _prepare(cluster: Cluster, server: str) -> None:
    """Give a server its clock, and its users their tokens."""
    config = cluster.configs[server]
    command = SERVE
    try:
        clock = WallClock(cluster.folder, server)
    except FileNotFoundError as why:
        cluster.missing.append(f"clocks set apart ({why})")
    else:
        cluster.clocks[server] = clock
        command = (*clock.command, *SERVE)
    cluster.servers[server] = ServerProcess(config.file, command)
    with open_tokens(config) as tokens:
        cluster.tokens[server] = {
            user: tokens.create(user, [Scope.OPERATOR]) for user in (*USERS, "switch", "operator")
        }
