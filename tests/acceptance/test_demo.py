"""The demonstration keeps its promises, measures them, and leaves nothing behind."""

import hashlib
import json
import signal
import subprocess
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import environment
from tests.support.processes import PROGRAM
from vmledger.demo.processes import wait_until

pytestmark = pytest.mark.timeout(180)

SPEECH = {
    hashlib.sha256(path.read_bytes()).hexdigest()
    for path in Path(str(resources.files("vmledger") / "speech")).glob("*.wav")
}


def processes_below(folder: Path) -> list[str]:
    """Command lines of all processes that were given a file in this folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demonstration may put its own folder."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(home: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROGRAM, "demo", "--json"],
        cwd=home,
        env=environment() | {"TMPDIR": str(home)},
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def report(demo: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    assert demo.returncode == 0, demo.stderr.decode()
    return json.loads(demo.stdout)


def test_every_promise_held(report: dict[str, Any]):
    assert report["broken_promises"] == []


def test_messages_took_all_three_paths(report: dict[str, Any]):
    paths = [m["path"] for m in report["messages"]]
    assert paths.count("stored-here") == 1
    assert paths.count("sent") == 2
    assert paths.count("held-then-migrated") == 3


def test_what_was_held_landed_at_two_servers_and_came_to_the_third(report: dict[str, Any]):
    held = [m for m in report["messages"] if m["path"] == "held-then-migrated"]
    assert {m["origin"] for m in held} == {"alpha", "charlie"}
    assert {m["home"] for m in held} == {"bravo"}


def test_every_home_gives_back_the_very_bytes_of_the_speech(report: dict[str, Any]):
    assert len({m["message_id"] for m in report["messages"]}) == 6
    for message in report["messages"]:
        assert message["digest_at_home"] == message["digest_sent"]
        assert message["digest_sent"] in SPEECH


def test_every_receipt_verified(report: dict[str, Any]):
    assert [m["receipt_ok"] for m in report["messages"]] == [True] * 6


def test_messages_were_stored_before_they_were_delivered(report: dict[str, Any]):
    for message in report["messages"]:
        stored = datetime.fromisoformat(message["stored_at"])
        assert stored <= datetime.fromisoformat(message["delivered_at"])


def test_what_waited_was_shown_and_nothing_was_doubled(report: dict[str, Any]):
    assert report["pending_while_down"] == 3
    assert report["handled_normally"] == 1
    assert report["duplicates"] == 0


def test_order_logs_and_replay_held(report: dict[str, Any]):
    assert report["in_order"] is True
    assert report["logs_verified"] is True
    assert report["replay_equal"] is True


def test_words_for_people_go_beside_the_report(demo: subprocess.CompletedProcess[bytes]):
    words = demo.stderr.decode()
    assert "Bravo is killed" in words
    assert "Every promise held" in words


def test_demonstration_leaves_no_process_and_no_file(report: dict[str, Any], home: Path):
    assert report
    assert processes_below(home) == []
    assert list(home.iterdir()) == []


def interrupted(folder: Path, sign: signal.Signals, *options: str) -> int:
    """Start a demonstration, send it a signal when its servers are up; gives its exit code."""
    with subprocess.Popen(
        [*PROGRAM, "demo", *options],
        env=environment() | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        assert any(b"all three are up" in line for line in demo.stdout)
        assert sum(" serve " in line for line in processes_below(folder)) == 3
        demo.send_signal(sign)
        demo.stdout.read()
        return demo.wait()


def test_demonstration_cleans_up_after_ctrl_c(tmp_path: Path):
    assert interrupted(tmp_path, signal.SIGINT) == 130
    assert processes_below(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_demonstration_that_is_told_to_end_keeps_what_it_shall_keep(tmp_path: Path):
    kept = tmp_path / "kept"
    assert interrupted(tmp_path, signal.SIGTERM, "--json", "--keep", str(kept)) == 130
    assert processes_below(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    configurations = sorted(kept.rglob("vmledger.toml"))
    assert len(configurations) == 3
    for path in configurations:
        verify = [*PROGRAM, "log", "verify", "--blobs", "--config", str(path)]
        assert subprocess.run(verify, env=environment(), check=False).returncode == 0


def test_killed_demonstration_takes_its_servers_with_it(tmp_path: Path):
    assert interrupted(tmp_path, signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: processes_below(tmp_path) == [], 20, lambda: "a server outlived it")
