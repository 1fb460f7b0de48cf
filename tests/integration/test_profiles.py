"""A mailbox's greetings and PIN at real servers: recorded at the home, served by every server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ledger.configuration import load_configuration
from ledger.errors import CallerError, ConflictError, NotFoundError
from ledger.events import PinChanged, decode
from ledger.storage.blob_care import gc
from ledger.storage.open_blob_store import open_blob_store
from tests.support.command_line import CommandLine, environment
from tests.support.processes import ServerProcess, Servers, free_ports, wait_for
from vmledger.blob_needs import needed_blobs
from vmledger.cli.api_client import ApiClient
from vmledger.cluster import write_cluster
from vmledger.stores import open_log

EXTENSIONS = {"alpha": ["2000-2999"], "bravo": ["3000-3999"], "charlie": ["4000-4999"]}
SPEECH = sorted(Path(str(files("vmledger") / "speech")).glob("*.wav"))
SETTLE_S = 30


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    ports = free_ports(6)
    places = {name: (ports[2 * i], ports[2 * i + 1]) for i, name in enumerate(EXTENSIONS)}
    folder = tmp_path_factory.mktemp("profiles")
    with Servers(write_cluster(folder, list(EXTENSIONS), EXTENSIONS, places)) as servers:
        yield servers


@pytest.fixture(autouse=True)
def everybody_up(cluster: Servers) -> None:
    """Whatever a test before killed runs again."""
    cluster.start_all()


def api(server: ServerProcess) -> ApiClient:
    token = (server.config.parent / "data" / "operator.token").read_text().strip()
    return ApiClient(server.url, token)


def command_line(server: ServerProcess) -> CommandLine:
    return CommandLine(server.config.parent, server.config)


def greet(server: ServerProcess, extension: str, speech: Path = SPEECH[0]) -> None:
    path = f"/v1/mailboxes/{extension}/greetings/unavailable"
    api(server).request("PUT", path, speech.read_bytes(), {"Content-Type": "audio/wav"})


def heard(server: ServerProcess, extension: str) -> bytes:
    path = f"/v1/mailboxes/{extension}/greetings/unavailable"
    return api(server).request("GET", path, headers={"Accept": "audio/original"}).body


def set_pin(server: ServerProcess, extension: str, pin: str) -> None:
    api(server).send("PUT", f"/v1/mailboxes/{extension}/pin", {"pin": pin})


def is_pin(server: ServerProcess, extension: str, pin: str) -> bool:
    path = f"/v1/mailboxes/{extension}/pin/check"
    verdict: bool = api(server).send("POST", path, {"pin": pin})["matches"]
    return verdict


def profile(server: ServerProcess, extension: str) -> Any:
    shown = api(server).get(f"/v1/mailboxes/{extension}/profile")
    shown.pop("as_of")
    return shown


def wait_until_equal(extension: str, *servers: ServerProcess) -> None:
    wanted = profile(servers[0], extension)
    others = servers[1:]
    assert wait_for(
        lambda: all(profile(other, extension) == wanted for other in others), SETTLE_S, 0.1
    ), [profile(other, extension) for other in others]


def test_greeting_and_pin_serve_everywhere_while_the_home_is_dead(cluster: Servers):
    alpha, bravo, charlie = cluster.all
    greet(alpha, "2001")
    set_pin(alpha, "2001", "2580")
    wait_until_equal("2001", alpha, bravo, charlie)
    alpha.kill9()
    for server in (bravo, charlie):
        assert heard(server, "2001") == SPEECH[0].read_bytes()
        assert is_pin(server, "2001", "2580")
        assert not is_pin(server, "2001", "2581")


def test_no_other_server_changes_a_profile_even_while_the_home_is_dead(cluster: Servers):
    alpha, bravo, _ = cluster.all
    alpha.kill9()
    with pytest.raises(ConflictError, match="home of mailbox 2002@default is alpha"):
        greet(bravo, "2002")
    with pytest.raises(ConflictError, match="home of mailbox 2002@default is alpha"):
        set_pin(bravo, "2002", "2580")


def test_server_that_was_away_learns_of_a_profile_when_it_returns(cluster: Servers):
    alpha, bravo, charlie = cluster.all
    charlie.kill9()
    greet(alpha, "2003", SPEECH[0])
    greet(alpha, "2003", SPEECH[1])
    for pin in ("2580", "1470"):
        set_pin(alpha, "2003", pin)
    charlie.start()
    wait_until_equal("2003", alpha, bravo, charlie)
    assert heard(charlie, "2003") == SPEECH[1].read_bytes()
    assert is_pin(charlie, "2003", "1470")
    assert not is_pin(charlie, "2003", "2580")


def test_removed_greeting_and_pin_are_gone_everywhere(cluster: Servers):
    alpha, bravo, charlie = cluster.all
    greet(alpha, "2004")
    set_pin(alpha, "2004", "2580")
    api(alpha).request("DELETE", "/v1/mailboxes/2004/greetings/unavailable")
    api(alpha).request("DELETE", "/v1/mailboxes/2004/pin")
    wait_until_equal("2004", alpha, bravo, charlie)
    with pytest.raises(NotFoundError):
        heard(charlie, "2004")
    with pytest.raises(NotFoundError, match="no PIN"):
        is_pin(bravo, "2004", "2580")


def verifiers_of(server: ServerProcess, mailbox: str) -> list[str]:
    with open_log(load_configuration(server.config)) as recorder:
        entries = recorder.read_topics(["pin-changed"], 1, recorder.head().position)
        events = [decode(entry.plain) for entry in entries]
    return [
        event.verifier
        for event in events
        if isinstance(event, PinChanged) and event.mailbox == mailbox and event.verifier
    ]


@pytest.mark.parametrize("name", EXTENSIONS)
def test_what_an_old_pin_was_checked_against_is_collected(cluster: Servers, name: str):
    extension = {"alpha": "2005", "bravo": "2006", "charlie": "2007"}[name]
    alpha, server = cluster["alpha"], cluster[name]
    for pin in ("2580", "1470"):
        set_pin(alpha, extension, pin)
        # One after the other, so that each arrives by itself.
        assert wait_for(lambda p=pin: profile(server, extension)["has_pin"], SETTLE_S)
        wait_until_equal(extension, *cluster.all)
    assert is_pin(server, extension, "1470")
    old, new = verifiers_of(server, f"{extension}@default")
    server.stop()
    config = load_configuration(server.config)
    blobs = open_blob_store(config.stores.blobs)
    assert blobs.has(old)
    with open_log(config) as recorder:
        needed = needed_blobs(recorder, name, timedelta(days=30), datetime.now(UTC))
        locations = recorder.locate_blobs(sorted(needed))
    gc(blobs, needed, locations, min_age_s=1e-6)
    assert not blobs.has(old)
    assert blobs.has(new)
    server.start()
    assert is_pin(server, extension, "1470")


def typed(server: ServerProcess, pin: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vmledger", "pin", *arguments],
        input=f"{pin}\n",
        env=environment() | {"VMLEDGER_CONFIG": str(server.config)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_record_list_export_and_remove_a_greeting(cluster: Servers, tmp_path: Path):
    vmledger = command_line(cluster["alpha"])
    said = vmledger("greeting", "record", "2010", "busy", "--audio", SPEECH[0]).out
    assert "busy greeting of mailbox 2010 is recorded" in said
    shown = vmledger("greeting", "list", "2010").out
    assert "busy" in shown
    assert "home alpha, no PIN" in shown
    (listed,) = vmledger("greeting", "list", "2010", "--json").json["greetings"]
    assert listed["kind"] == "busy"
    vmledger("greeting", "export", "2010", "busy", "--to", tmp_path / "sound.wav")
    assert (tmp_path / "sound.wav").read_bytes() == SPEECH[0].read_bytes()
    vmledger("greeting", "remove", "2010", "busy")
    assert vmledger("greeting", "list", "2010", "--json").json["greetings"] == []
    assert "no greeting of its own" in vmledger("greeting", "list", "2010").out
    vmledger("greeting", "export", "2010", "busy", "--to", tmp_path / "none.wav", code=1)


def test_commands_at_another_server_than_the_home_name_the_home(cluster: Servers):
    vmledger = command_line(cluster["bravo"])
    ran = vmledger("greeting", "record", "2011", "busy", "--audio", SPEECH[0], code=1)
    assert "the home of mailbox 2011@default is alpha" in ran.err


def test_commands_set_check_and_remove_a_pin_that_is_never_an_argument(cluster: Servers):
    alpha = cluster["alpha"]
    assert typed(alpha, "8302946", "set", "2012").returncode == 0
    assert typed(alpha, "8302946", "check", "2012").returncode == 0
    wrong = typed(alpha, "8302947", "check", "2012")
    assert (wrong.returncode, wrong.stdout) == (1, "that is not the PIN\n")
    assert command_line(alpha)("pin", "remove", "2012").code == 0
    assert typed(alpha, "8302946", "check", "2012").returncode == 1
    assert typed(alpha, "", "set", "2012").returncode == 2
    assert "8302946" not in alpha.log.read_text()


def test_unfit_pin_is_refused_with_its_reason(cluster: Servers):
    ran = typed(cluster["alpha"], "1234", "set", "2013")
    assert ran.returncode == 2
    assert "a run like 1234" in ran.stderr
    with pytest.raises(CallerError, match="extension"):
        set_pin(cluster["alpha"], "2013", "2013")


def test_mailbox_command_still_shows_a_mailbox(cluster: Servers):
    assert command_line(cluster["alpha"])("mailbox", "2014").out.strip().endswith("is empty")
