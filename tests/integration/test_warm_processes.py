"""Processes that are copies of one that has loaded the program: they are processes like others."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.support.command_line import environment
from tests.support.processes import PROGRAM, wait_for
from tests.support.warm import ROOT, WarmProcess


def start(tmp_path: Path, *arguments: str) -> WarmProcess:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        return WarmProcess(arguments, stdout=out, stderr=err, env=environment(), cwd=tmp_path)


@pytest.fixture
def serving(tmp_path: Path):
    assert start(tmp_path, "init", ".", "--server", "alpha", "--api", "127.0.0.1:0").wait(60) == 0
    process = start(tmp_path, "serve", "--config", "vmledger.toml")
    yield process
    process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["frobnicate"], ["config", "check"], ["message", "show", "--help"], []],
)
def test_a_copy_says_and_gives_what_a_fresh_start_does(tmp_path: Path, arguments: list[str]):
    fresh = subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, cwd=tmp_path, env=environment(), check=False
    )
    assert start(tmp_path, *arguments).wait(60) == fresh.returncode
    assert (tmp_path / "out").read_bytes() == fresh.stdout
    assert (tmp_path / "err").read_bytes() == fresh.stderr


def test_a_copy_is_killed_by_a_signal_and_says_by_which(serving: WarmProcess):
    with pytest.raises(subprocess.TimeoutExpired):
        serving.wait(0.01)
    assert serving.poll() is None
    os.kill(serving.pid, signal.SIGKILL)
    assert serving.wait(10) == -signal.SIGKILL


def test_a_copy_leads_a_session_of_its_own(serving: WarmProcess):
    assert os.getsid(serving.pid) == os.getpgid(serving.pid) == serving.pid


def test_copies_die_when_the_test_run_is_killed(tmp_path: Path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import pathlib, sys, time
            from tests.support import warm
            from tests.support.processes import ServerProcess
            warm.enable()
            server = ServerProcess(pathlib.Path(sys.argv[1]))
            server.start(wait=False)
            print(server.pid, flush=True)
            time.sleep(600)
            """
        )
    )
    assert start(tmp_path, "init", "a", "--server", "alpha", "--api", "127.0.0.1:0").wait(60) == 0
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "a/vmledger.toml"],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert psutil.pid_exists(pid)
        run.kill()
    assert wait_for(lambda: not psutil.pid_exists(pid), 10)
