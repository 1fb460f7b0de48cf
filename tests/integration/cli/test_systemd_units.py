"""The units for systemd are whole, and what the timers start does its work beside the server."""

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine

OPERATING = Path(__file__).parents[3] / "docs" / "operating"
UNITS = sorted([*OPERATING.glob("*.service"), *OPERATING.glob("*.timer")])
PROGRAM = "/opt/vmledger/bin/vmledger"
CONFIG = "/var/lib/vmledger/vmledger.toml"
ARCHIVE = "/srv/vmledger-archive"


def commands(unit: Path) -> list[list[str]]:
    """What a unit runs."""
    lines = unit.read_text().splitlines()
    started = [line.partition("=")[2] for line in lines if line.startswith("ExecStart=")]
    return [shlex.split(line) for line in started]


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    copies = [tmp_path / unit.name for unit in UNITS]
    for unit, copy in zip(UNITS, copies, strict=True):
        copy.write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *copies],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_timer_has_the_service_that_it_starts():
    timers = {unit.stem for unit in UNITS if unit.suffix == ".timer"}
    services = {unit.stem for unit in UNITS if unit.suffix == ".service"}
    assert timers == services - {"vmledger"} != set()


@pytest.mark.parametrize("name", ["vmledger-archive", "vmledger-daily"])
def test_what_a_timer_starts_works_again_and_again(running, tmp_path, name):
    line = CommandLine(tmp_path)
    places = {CONFIG: str(running.vmledger.config), ARCHIVE: str(tmp_path / "archive")}
    started = commands(OPERATING / f"{name}.service")
    assert started
    for program, *arguments in started * 2:
        assert program == PROGRAM
        line(*(places.get(argument, argument) for argument in arguments))
