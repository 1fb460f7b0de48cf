"""What was erased at real servers is on no disk readable, and no old backup brings it back."""

from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from ledger.configuration import load_configuration
from ledger.storage.open_recorder import open_recorder
from ledger.storage.sealed_form import is_sealed
from ledger.storage.stored_form import intact_prefix
from tests.integration.test_backup import lose
from tests.support.api import wav
from tests.support.command_line import CommandLine
from tests.support.pair import CALLER, Client, eventually, write_pair
from tests.support.processes import Servers

SPOKEN = wav(1700, level=23)


@pytest.fixture
def pair(tmp_path):
    """Alpha took a message for bravo and one for itself; both have a backup of before."""
    files = write_pair(tmp_path)
    with Servers(files.values()) as servers:
        servers.start_all()
        alpha, bravo = Client(servers["alpha"]), Client(servers["bravo"])
        sent, own = alpha.leave("2001", SPOKEN), alpha.leave("1001", SPOKEN)
        eventually(lambda: alpha.pending() == 0 and bravo.mailbox("2001") == [sent["message_id"]])
        runs = {name: CommandLine(tmp_path, file) for name, file in files.items()}
        for name, run in runs.items():
            run("backup", "create", tmp_path / f"backup-{name}")
        yield servers, runs, sent, own


def key_of(config: Path, call: str) -> bytes | None:
    loaded = load_configuration(config)
    with closing(open_recorder(loaded.stores.events)) as log:
        return log.read_keys([UUID(call)])[UUID(call)].wrapped


def files_below(folder: Path):
    return (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".toml")


def test_nothing_on_any_disk_is_readable_without_the_master_key(pair, tmp_path):
    servers, runs, _sent, _own = pair
    for name in runs:
        servers[name].stop()
    found = 0
    for path in files_below(tmp_path):
        data = path.read_bytes()
        assert CALLER.encode() not in data, f"{path} names who called"
        assert SPOKEN not in intact_prefix(data).received, f"{path} can be heard"
        assert SPOKEN[44:400] not in data, path
        found += is_sealed(data)
    assert found >= 2, "there are recordings"
    exported = tmp_path / "calls.ndjson"
    runs["alpha"]("export", "calls", "--output", exported)
    assert exported.read_text().count(CALLER) == 2


def test_erased_at_the_home_is_erased_where_the_call_was_taken(pair):
    servers, runs, sent, own = pair
    reason = "the caller asked, letter of 3 May"
    wrong = runs["alpha"]("erase", "message", sent["message_id"], "--reason", reason, code=1)
    assert "bravo answers for it" in wrong.out
    done = runs["bravo"]("erase", "message", sent["message_id"], "--reason", reason)
    assert "erased" in done.out
    call = sent["call_id"]
    eventually(lambda: key_of(runs["alpha"].config, call) is None)
    assert key_of(runs["bravo"].config, call) is None
    assert key_of(runs["alpha"].config, own["call_id"]) is not None
    eventually(lambda: runs["bravo"]("erase", "certificate", call, "--json", code=None).code == 0)
    certificate = runs["bravo"]("erase", "certificate", call)
    assert reason in certificate.out
    assert "alpha" in certificate.out
    assert "destroyed" in certificate.out
    assert Client(servers["bravo"]).mailbox("2001") == []
    story = runs["alpha"]("message", "show", sent["message_id"])
    assert CALLER not in story.out
    assert reason in story.out
    for run in runs.values():
        run("log", "verify", "--blobs")


@pytest.mark.parametrize("restored", ["alpha", "bravo"])
def test_old_backup_does_not_bring_it_back_once_it_has_met_its_peers(pair, tmp_path, restored):
    servers, runs, sent, own = pair
    call = sent["call_id"]
    runs["bravo"]("erase", "message", sent["message_id"], "--reason", "asked")
    runs["alpha"]("erase", "message", own["message_id"], "--reason", "asked")
    for run in runs.values():
        eventually(lambda run=run: key_of(run.config, call) is None)
        if run is runs["bravo"]:
            continue
        assert key_of(run.config, own["call_id"]) is None
    eventually(lambda: runs["alpha"]("erase", "certificate", own["call_id"], code=None).code == 0)
    servers[restored].kill9()
    lose(runs[restored].config)
    runs[restored]("backup", "restore", tmp_path / f"backup-{restored}")
    assert key_of(runs[restored].config, call) is not None, "a key of that day"
    servers[restored].start()
    eventually(lambda: key_of(runs[restored].config, call) is None)
    if restored == "alpha":
        eventually(lambda: key_of(runs[restored].config, own["call_id"]) is None)
    client = Client(servers["bravo"])
    eventually(lambda: client.mailbox("2001") == [])
    eventually(lambda: Client(servers["alpha"]).mailbox("1001") == [])
    for run in runs.values():
        run("log", "verify", "--blobs")


def test_recording_that_was_set_aside_is_opened_with_the_keys_of_its_server(pair, tmp_path):
    servers, runs, _sent, _own = pair
    client = Client(servers["alpha"])
    place = client.report("1001")
    refused = client.record(place, b"this is no sound at all, as any fool can hear")
    assert refused.status_code == 422, refused.text
    (aside,) = (runs["alpha"].config.parent / "data/spool/set-aside").glob("*.zst")
    assert b"no sound at all" not in aside.read_bytes()
    out = tmp_path / "heard"
    runs["alpha"]("message", "open", aside, "--to", out)
    assert out.read_bytes() == b"this is no sound at all, as any fool can hear"
    accessed = runs["alpha"]("audit", "--json")
    assert any("set-aside" in line or aside.name in line for line in accessed.out.splitlines())
    elsewhere = runs["bravo"]("message", "open", aside, "--to", tmp_path / "no", code=1)
    assert "key of call" in elsewhere.err
