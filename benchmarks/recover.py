"""Rebuild a lost server from its mirror, beside ``rsync -a`` and ``sync`` of the same bytes.

A server holds messages of 20 KB and is copied by its mirror, a ``vmledger serve`` process on
loopback. Then its stores are gone; ``vmledger recover`` rebuilds it, once from the mirror and once
from the directory in which the mirror keeps the copy. Measured is what that command itself reports,
from its first question to the new incarnation and without the second in which Python starts: every
event held against the signed tree, every blob against its address, everything durable; and from the
mirror all of it over mutual TLS. The baseline copies that directory (a database and packs) to
another folder of the same disk, and syncs. Beside the mirror it does so over an encrypted line as
well, by ssh, if this machine has an ssh server. ``goal`` is the ratio of messages a second.

Each round takes all ways in turn, and the figures are medians: how fast a disk writes depends on
what was written to it and dropped just before. ``--full`` takes 100 000 messages, which must be
rebuilt in less than ten minutes; with few of them the fixed part of a recovery weighs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from benchmarks.backlog import fill
from benchmarks.report import report
from benchmarks.ssh_server import has_ssh_server, ssh_server
from ledger.configuration import load_configuration
from ledger.storage.log_copy import LOG_FILE
from ledger.storage.open_recorder import open_recorder
from tests.support.processes import Servers, free_ports, wait_for
from vmledger.cluster import write_cluster

SIZE_BYTES = 20_000
MESSAGES, ROUNDS = 5_000, 3
FULL_MESSAGES, FULL_MOST_S = 100_000, 600.0
GOAL = 0.5
EXTENSIONS = {"alpha": ["2000-2999"], "bravo": ["3000-3999"]}
KEYS = {"server.key", "tls.key", "tls.crt", "master.key"}
GIVE_UP_S = 900.0


class Seconds(NamedTuple):
    """What each way took."""

    mirror: float
    directory: float
    rsync: float
    rsync_ssh: float | None
    """None: there is no ssh server."""


def lose_and_recover(folder: Path, messages: int) -> Iterator[Seconds]:
    """Lose a server and recover it in each way, in several rounds."""
    ports = free_ports(4)
    places = {"alpha": (ports[0], ports[1]), "bravo": (ports[2], ports[3])}
    alpha, bravo = write_cluster(
        folder, list(EXTENSIONS), EXTENSIONS, places, mirrors={"alpha": ["bravo"]}
    )
    fill(alpha, "alpha", "2001", messages, SIZE_BYTES, in_packs=True)
    copy = bravo.parent / "data" / "mirrors" / "alpha" / "current"
    with Servers([alpha, bravo]) as servers:
        servers.start_all()
        start = time.perf_counter()
        assert wait_for(lambda: is_copied(alpha, copy), GIVE_UP_S, pause_s=0.5), "not copied"
        print(f"{messages} messages mirrored in about {time.perf_counter() - start:.0f} s")
        servers["alpha"].kill9()
        for number in range(ROUNDS):
            copied_s = rsync(f"{copy}/", folder / "copied")
            over_ssh_s = None
            if has_ssh_server():
                with ssh_server(folder / f"ssh-{number}") as (way, host):
                    over_ssh_s = rsync(f"{host}:{copy}/", folder / "copied", f"--rsh={way}")
            lose(alpha.parent)
            from_mirror_s = recover(alpha.parent, "bravo")
            lose(alpha.parent)
            from_directory_s = recover(alpha.parent, str(copy))
            yield Seconds(from_mirror_s, from_directory_s, copied_s, over_ssh_s)


def lose(directory: Path) -> None:
    for path in (directory / "data").iterdir():
        if path.name not in KEYS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_copied(config: Path, copy: Path) -> bool:
    if not (copy / LOG_FILE).exists():
        return False
    with (
        closing(open_recorder(load_configuration(config).stores.events)) as own,
        closing(open_recorder(f"sqlite:///{copy / LOG_FILE}")) as copied,
    ):
        return copied.head().position >= own.head().position


def recover(directory: Path, source: str) -> float:
    subprocess.run(["sync"], check=True)
    command = [sys.executable, "-m", "vmledger", "recover", str(directory), "--from", source]
    done = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE)
    told = json.loads(done.stdout)
    assert told["is_whole"], told["statement"]
    return float(told["report"]["seconds"])


def rsync(source: str, target: Path, *options: str) -> float:
    subprocess.run(["sync"], check=True)
    start = time.perf_counter()
    subprocess.run(["rsync", "-a", *options, source, f"{target}/"], check=True)
    subprocess.run(["sync"], check=True)
    took_s = time.perf_counter() - start
    shutil.rmtree(target)
    return took_s


def compare(name: str, took_s: float, baseline: str, baseline_s: float, messages: int) -> None:
    report(name, messages / took_s, "messages/s", baseline, messages / baseline_s, GOAL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    is_full = parser.parse_args().full
    messages = FULL_MESSAGES if is_full else MESSAGES
    rounds = []
    folder = Path(tempfile.mkdtemp(prefix="bench-recover-", dir=Path.cwd()))
    try:
        for took in lose_and_recover(folder, messages):
            rounds.append(took)
            print(f"from the mirror {took.mirror:.2f} s, from its directory {took.directory:.2f} s")
            encrypted = f", over ssh {took.rsync_ssh:.2f} s" if took.rsync_ssh is not None else ""
            print(f"rsync and sync {took.rsync:.2f} s{encrypted}", flush=True)
    finally:
        shutil.rmtree(folder)
    mirror_s = statistics.median(took.mirror for took in rounds)
    directory_s = statistics.median(took.directory for took in rounds)
    copied_s = statistics.median(took.rsync for took in rounds)
    over_ssh = [took.rsync_ssh for took in rounds if took.rsync_ssh is not None]
    name = f"recover-{messages}x{SIZE_BYTES // 1000}KB"
    compare(name, mirror_s, "rsync -a and sync", copied_s, messages)
    if over_ssh:
        baseline_s = statistics.median(over_ssh)
        compare(f"{name}-beside-ssh", mirror_s, "rsync -a over ssh and sync", baseline_s, messages)
    compare(f"{name}-from-directory", directory_s, "rsync -a and sync", copied_s, messages)
    if is_full and mirror_s > FULL_MOST_S:
        raise SystemExit(f"{messages} messages took {mirror_s:.0f} s, over {FULL_MOST_S:.0f}")


if __name__ == "__main__":
    main()
