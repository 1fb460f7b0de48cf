"""The tutorial's commands, one after the other, as a reader would type them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.markdown import ROOT, console_commands
from tests.support.processes import DIE_WITH_STARTER, free_ports

PORTS = ("8101", "8102", "8201", "8202")
COMMANDS = list(console_commands(ROOT / "docs" / "tutorial.md"))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The tutorial as a script, in a place and on ports of its own."""
    text = "\n".join(["set -ex", *COMMANDS, ""])
    for documented, free in zip(PORTS, free_ports(len(PORTS)), strict=True):
        assert documented in text
        text = text.replace(documented, str(free))
    assert text.count("make venv\n") == 1
    path = tmp_path / "tutorial.sh"
    path.write_text(text.replace("make venv\n", "\n"))
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    (tmp_path / "vmledger").symlink_to(ROOT / "vmledger")
    return path


def test_every_command_of_the_tutorial_works(script):
    # A file, not a pipe: a server left by a failing tutorial would keep a pipe open.
    output = script.with_suffix(".log")
    with output.open("wb") as log:
        tutorial = subprocess.Popen(
            [*DIE_WITH_STARTER, "bash", script],
            cwd=script.parent,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        status = tutorial.wait(270)
    finally:
        stop_all(tutorial.pid)
        tutorial.wait()
    assert status == 0, output.read_text()
    assert not (script.parent / "tutorial-data").exists()


def stop_all(session: int) -> None:
    """Kill the shell and the servers that it has started: they share its process group."""
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        return
