"""The commands of the runbook, as an operator would type them, on a server that is really lost."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.api import wav
from tests.support.command_line import environment
from tests.support.markdown import ROOT
from tests.support.pair import Client, eventually, set_keys
from tests.support.processes import Servers, free_ports
from vmledger.cluster import write_cluster

PAGE = ROOT / "docs" / "operating" / "disaster-recovery.md"
SECTION = re.compile(r"^## (?P<title>.+?)\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```console\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
EXTENSIONS = {"alpha": ["1000-1999"], "bravo": ["2000-2999"]}


def blocks(title: str) -> list[str]:
    """Give the commands of each block of a section."""
    text = next(m["text"] for m in SECTION.finditer(PAGE.read_text()) if m["title"] == title)
    return [
        "\n".join(line[2:] for line in m["code"].splitlines() if line.startswith(("$ ", "> ")))
        for m in BLOCK.finditer(text)
    ]


class Operator:
    """Types commands into one shell after the other."""

    def __init__(self, folder: Path, **variables: object) -> None:
        self._folder = folder
        self.variables = {name: str(value) for name, value in variables.items()}
        (folder / "bin").mkdir()
        program = folder / "bin" / "vmledger"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vmledger "$@"\n')
        program.chmod(0o755)

    def __call__(self, commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self._folder,
            env=environment()
            | {"PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
            | self.variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def test_every_block_of_commands_is_tried_below():
    found = {m["title"]: len(blocks(m["title"])) for m in SECTION.finditer(PAGE.read_text())}
    assert {title: count for title, count in found.items() if count} == {
        "A server is lost": 5,
        "There is no mirror, or it is lost too": 1,
        "As it was at an earlier moment": 1,
        "Before the disaster": 3,
    }


@pytest.mark.timeout(300)
def test_operator_brings_a_lost_server_back_by_the_page(tmp_path):
    ports = free_ports(4)
    places = {"alpha": (ports[0], ports[1]), "bravo": (ports[2], ports[3])}
    alpha, bravo = write_cluster(
        tmp_path, list(EXTENSIONS), EXTENSIONS, places, mirrors={"alpha": ["bravo"]}
    )
    set_keys(alpha, backoff_max_s=1, probe_interval_s=0.5)
    copy = bravo.parent / "data" / "mirrors" / "alpha" / "current"
    (tmp_path / "safe").mkdir()
    operator = Operator(
        tmp_path, dir=alpha.parent, safe=tmp_path / "safe", copy=copy, mirror=bravo, moment=5
    )
    keep, watch, verify = blocks("Before the disaster")
    unpack, recover, look, after, tokens = blocks("A server is lost")
    with Servers([alpha, bravo]) as servers:
        servers.start_all()
        client = Client(servers["alpha"])
        left = client.leave("1001", wav(1200, level=3))["message_id"]
        operator(keep)
        operator.variables["VMLEDGER_CONFIG"] = str(alpha)
        eventually(lambda: "lacks 0 of our events" in operator(watch))
        operator(verify)

        servers["alpha"].kill9()
        shutil.rmtree(alpha.parent)
        del operator.variables["VMLEDGER_CONFIG"]
        operator(unpack)
        assert "nothing missing" in operator(recover)
        assert "intact" in operator(look)
        servers["alpha"].start()
        operator.variables["VMLEDGER_CONFIG"] = str(alpha)
        told = operator(after)
        assert "mirror bravo" in told
        operator(tokens)
        assert Client(servers["alpha"]).mailbox("1001") == [left]

        # The mirror's own machine is lost too; its disk is not.
        eventually(lambda: "lacks 0 of our events" in operator(watch))
        for server in servers.all:
            server.kill9()
        for section in ("There is no mirror, or it is lost too", "As it was at an earlier moment"):
            shutil.rmtree(alpha.parent)
            operator(unpack)
            (only,) = blocks(section)
            told = operator(only)
            assert "nothing missing" in told
        assert "recovered through position 5 of" in told
