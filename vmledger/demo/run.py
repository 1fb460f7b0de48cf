"""Run the demonstration: make the servers, tell the story, gather the evidence, clean up.

Whatever ends it (success, a broken promise, Ctrl-C, SIGTERM), its processes end with it and its
folder goes; a SIGKILL takes the processes too, through the kernel.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ledger.configuration import load_configuration
from ledger.errors import CallerError
from vmledger.cli.output import print_json
from vmledger.cluster import write_cluster
from vmledger.demo.evidence import audit_stores, gather
from vmledger.demo.narrator import Narrator
from vmledger.demo.processes import ServerProcess, Servers, free_ports
from vmledger.demo.report import DemoReport
from vmledger.demo.story import EXTENSIONS, Story


def run_demo(*, as_json: bool, keep: Path | None) -> bool:
    """Play the demonstration; True when every promise held.

    For people the words go to standard output; with ``as_json`` they go to standard error, and
    standard output gets the report alone.
    """
    narrator = Narrator(sys.stderr if as_json else sys.stdout)
    with _sigterm_like_ctrl_c(), _folder(keep) as folder:
        report = _play(folder, narrator)
    _conclude(report, narrator)
    if as_json:
        print_json(report)
    return not report.broken_promises


def _play(folder: Path, narrator: Narrator) -> DemoReport:
    narrator.step("Three servers start, each a process with its own disk: alpha, bravo, charlie.")
    with _servers(folder) as servers:
        for server in servers.values():
            server.wait_until_ready()
        narrator.result("all three are up and know each other's keys")
        story = Story(servers, narrator)
        story.tell()
        evidence = gather(story)
    return audit_stores(evidence, servers, narrator)


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[Servers]:
    """Start the servers; stop them in the end, whatever that is."""
    ids = list(EXTENSIONS)
    paths = write_cluster(folder, ids, EXTENSIONS, free_ports(ids))
    for path in paths:
        _be_patient(path)
    servers = {
        server_id: ServerProcess(load_configuration(path), path, folder / f"{server_id}.log")
        for server_id, path in zip(ids, paths, strict=True)
    }
    try:
        for server in servers.values():
            server.start()
        yield servers
    finally:
        for server in servers.values():
            server.terminate()
        for server in servers.values():
            server.stop()


def _be_patient(path: Path) -> None:
    """Give a living home some seconds to acknowledge, so that a busy machine changes no outcome."""
    text = path.read_text("utf-8")
    patient = text.replace("# deadline_s = ", "deadline_s = 4.0  # ", 1)
    assert patient != text, "the configuration documents its deadline"
    path.write_text(patient, "utf-8")


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give the folder of the stores: the one to keep, or one that is gone afterwards."""
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise CallerError(f"{keep} is not empty; give --keep a new folder")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="vmledger-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that everything is cleaned up."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _conclude(report: DemoReport, narrator: Narrator) -> None:
    if report.broken_promises:
        narrator.step("A promise did NOT hold:")
        for broken in report.broken_promises:
            narrator.result(broken)
    else:
        narrator.step("Every promise held.")
        narrator.result(
            f"{len(report.messages)} messages, none lost, {report.duplicates} doubled, "
            f"in {report.duration_s:.1f} s"
        )
