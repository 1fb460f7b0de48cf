"""The commands of the audit page, section by section, as a reader would type them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from ledger.configuration import load_configuration
from tests.support.command_line import CommandLine, environment
from tests.support.markdown import ROOT
from vmledger.cluster import write_cluster
from vmledger.demo.processes import ServerProcess, free_ports

PAGE = ROOT / "docs" / "operating" / "audit.md"
SPEECH = min(Path(str(resources.files("vmledger") / "speech")).glob("*.wav"))
SECTION = re.compile(r"^## (?P<title>.+?)\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```console\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = (
    "What happened to this message?",
    "Who listened, and who looked?",
    "Is the log what it was?",
    "Do two servers hold the same?",
    "What did this mailbox hold, and was its lamp lit?",
    "What would another policy have done?",
    "What is old, and what must stay?",
    "Ask your own questions",
    "Who wants to be forgotten?",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CommandLine, str]]:
    """Alpha took a message for 1001, and one for bravo, which was away then."""
    folder = tmp_path_factory.mktemp("audit")
    homes = {"alpha": ["1000-1999"], "bravo": ["2000-2999"]}
    path, other = write_cluster(folder, list(homes), homes, free_ports(list(homes)))
    server = ServerProcess(load_configuration(path), path, folder / "alpha.log")
    bravo = ServerProcess(load_configuration(other), other, folder / "bravo.log")
    vmledger = CommandLine(folder, path)
    server.start()
    try:
        server.wait_until_ready()
        said = [
            vmledger(
                "call", "--from", "+15550100", "--to", extension, "--status", "no-answer",
                "--audio", SPEECH, "--json",
            ).json
            for extension in ("1001", "2001")
        ]  # fmt: skip
        bravo.start()
        bravo.wait_until_ready()
        yield vmledger, said[0]["message"]["message_id"]
    finally:
        server.kill()
        bravo.kill()


def commands(title: str) -> str:
    text = next(m["text"] for m in SECTION.finditer(PAGE.read_text()) if m["title"] == title)
    lines = [line for m in COMMANDS.finditer(text) for line in m["code"].splitlines()]
    # A command may go on in lines that begin with a mark of its own.
    return "\n".join(line[2:] for line in lines if line.startswith(("$ ", "> ")))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("title", OURS)
def test_every_command_of_the_section_works(title: str, site: tuple[CommandLine, str], tmp_path):
    vmledger, message = site
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    program = bin_dir / "vmledger"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vmledger "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", commands(title)],
        cwd=tmp_path,
        env=environment()
        | {
            "PATH": f"{bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "VMLEDGER_CONFIG": str(vmledger.config),
            "id": message,
        },
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vmledger" in commands(title)
