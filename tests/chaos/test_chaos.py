"""A short run of chaos, and that what it strikes with really strikes."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.cluster import SERVERS, running_cluster
from tests.chaos.disk import ShrinkingDisk
from tests.chaos.faults import WEIGHTS, draw
from tests.chaos.proxy import Network
from tests.chaos.remains import RealRemains
from tests.chaos.run import Run, check, run, tell
from tests.chaos.wall_clock import WallClock
from tests.support.mounted_disk import mounted_disk

SMOKE_SEED = 5
SMOKE_S = 15


@pytest.fixture
def run_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    yield folder
    if not (folder / "report.txt").exists():
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(400)
def test_servers_keep_every_promise_through_some_seconds_of_chaos(run_folder):
    report = run(run_folder, SMOKE_SEED, SMOKE_S / 60, calls_per_s=3.0)
    assert not report.failures, tell(report)
    assert report.counts["calls accepted"] > 5
    assert report.counts["servers killed"] > 0
    if report.missing:
        pytest.skip(f"passed, but without {', '.join(report.missing)}")


def test_a_seed_gives_one_plan_in_which_every_fault_strikes_every_server():
    plan = list(draw(7, 3600))
    assert plan == list(draw(7, 3600))
    assert plan != list(draw(8, 3600))
    assert {fault.kind for fault in plan} == WEIGHTS.keys()
    for kind in WEIGHTS.keys() - {"postgres"}:
        assert {fault.server for fault in plan if fault.kind == kind} == set(SERVERS)


PROGRAM = """
import datetime, time
print("ready", flush=True)
while input():
    now = datetime.datetime.now(datetime.UTC).timestamp()
    print(now, time.time(), time.monotonic(), flush=True)
"""


def test_a_wall_clock_is_off_and_jumps_while_a_process_runs(tmp_path):
    clock = WallClock(tmp_path, "alpha")
    command = [*clock.command, sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()

        def read() -> list[float]:
            process.stdin.write("now\n")
            process.stdin.flush()
            return [float(word) for word in process.stdout.readline().split()]

        before = read()
        clock.set_off(-600.0)
        after = read()
        process.stdin.write("\n")
    assert [round(b - a, -1) for a, b in zip(before, after, strict=True)] == [-600, -600, 0]


@pytest.fixture
def line():
    """Give a way to a program that sends back what it gets, and a function that asks it."""
    with socket.create_server(("127.0.0.1", 0)) as listener, Network(1) as network:

        def serve() -> None:
            while True:
                try:
                    end, _ = listener.accept()
                except OSError:
                    return
                with end:
                    while data := end.recv(65536):
                        end.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        way = network.add("here-there", listener.getsockname()[1])

        def ask(text: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", way.port), timeout=5) as end:
                end.sendall(text)
                end.shutdown(socket.SHUT_WR)
                answer = b""
                while data := end.recv(65536):
                    answer += data
                return answer

        yield way, ask
        listener.shutdown(socket.SHUT_RDWR)


def test_a_whole_way_passes_everything(line):
    _, ask = line
    assert ask(b"hello" * 1000) == b"hello" * 1000


def test_a_way_cuts_truncates_and_corrupts(line):
    way, ask = line
    way.corruption = 1.0
    assert len(answer := ask(b"hello")) == 5
    assert answer != b"hello"
    way.heal()
    way.truncate = 1000
    assert min(len(_or_less(ask, b"hello" * 10_000)) for _ in range(20)) < 50_000
    way.heal()
    way.is_cut = True
    assert _or_less(ask, b"hello") == b""
    way.heal()
    assert ask(b"hello") == b"hello"


def _or_less(ask, text: bytes) -> bytes:
    try:
        return ask(text)
    except OSError:
        return b""


def test_a_stalled_way_passes_nothing_until_it_is_healed(line):
    way, ask = line
    way.is_stalled = True
    threading.Timer(0.5, way.heal).start()
    answers: list[bytes] = []
    asking = threading.Thread(target=lambda: answers.append(ask(b"hello")))
    asking.start()
    asking.join(0.3)
    assert answers == []
    asking.join(5)
    assert answers == [b"hello"]


def test_a_disk_is_full_and_has_room_again(tmp_path):
    with mounted_disk(tmp_path, 1 << 20) as mounted:
        disk = ShrinkingDisk(mounted, 1 << 20)
        (tmp_path / "some").write_bytes(bytes(100_000))
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "more").write_bytes(bytes(100_000))
        disk.free()
        (tmp_path / "more").write_bytes(bytes(100_000))


@pytest.mark.timeout(300)
def test_the_checkers_see_what_is_wrong_with_real_stores(run_folder):
    with running_cluster(run_folder, 1) as cluster:
        quiet = Run(cluster, 1, 3.0, 4.0)
        quiet.live()
        left = RealRemains(cluster, quiet.told)
        quiet.settle(left)
        quiet.stop_servers()
        assert check(quiet, left) == []
        left.close()

        shutil.rmtree(cluster.data("charlie") / "blobs")
        with closing(sqlite3.connect(cluster.data("alpha") / "ledger.sqlite")) as database:
            names = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in names.fetchall():
                database.execute(f"DROP TRIGGER {name}")
            database.execute(
                "DELETE FROM events WHERE position = (SELECT min(position) FROM events "
                "WHERE topic = 'message-delivered')"
            )
            database.commit()
        left = RealRemains(cluster, quiet.told)
        found = "\n".join(check(quiet, left))
        left.close()
    assert "every message has its sound: charlie shows message" in found
    assert "every accepted message arrived" in found
    assert "logs verify: alpha" in found
    assert "logs are whole" in found
    assert "read models equal a replay: mailboxes" in found
