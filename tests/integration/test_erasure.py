"""What was erased at real servers is on no disk readable, and no old backup brings it back."""

import json
from collections.abc import Iterator
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


class Pair:
    """Two servers that run, and their command lines."""

    def __init__(self, folder: Path, servers: Servers, files: dict[str, Path]) -> None:
        self.folder = folder
        self.servers = servers
        self.runs = {name: CommandLine(folder, file) for name, file in files.items()}

    def client(self, name: str) -> Client:
        return Client(self.servers[name])

    def leave(self) -> tuple[dict, dict]:
        """Let alpha take a message for bravo and one for itself."""
        alpha, bravo = self.client("alpha"), self.client("bravo")
        sent, own = alpha.leave("2001", SPOKEN), alpha.leave("1001", SPOKEN)
        eventually(lambda: alpha.pending() == 0 and sent["message_id"] in bravo.mailbox("2001"))
        return sent, own

    def back_up(self) -> dict[str, Path]:
        places = {name: self.folder / f"backup-{name}" for name in self.runs}
        for name, run in self.runs.items():
            run("backup", "create", places[name])
        return places


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("erasure")
    files = write_pair(folder)
    with Servers(files.values()) as servers:
        servers.start_all()
        yield Pair(folder, servers, files)


def key_of(config: Path, call: str) -> bytes | None:
    loaded = load_configuration(config)
    with closing(open_recorder(loaded.stores.events)) as log:
        return log.read_keys([UUID(call)])[UUID(call)].wrapped


def files_below(folder: Path):
    return (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".toml")


def test_nothing_on_any_disk_is_readable_without_the_master_key(pair: Pair, tmp_path):
    pair.leave()
    pair.back_up()
    found = 0
    for path in files_below(pair.folder):
        data = path.read_bytes()
        assert CALLER.encode() not in data, f"{path} names who called"
        assert SPOKEN not in intact_prefix(data).received, f"{path} can be heard"
        assert SPOKEN[44:400] not in data, path
        found += is_sealed(data)
    assert found >= 2, "there are recordings"
    exported = tmp_path / "calls.ndjson"
    pair.runs["alpha"]("export", "calls", "--output", exported)
    assert exported.read_text().count(CALLER) == 2


def test_erased_at_the_home_is_erased_where_the_call_was_taken(pair: Pair):
    sent, own = pair.leave()
    runs, reason = pair.runs, "the caller asked, letter of 3 May"
    wrong = runs["alpha"]("erase", "message", sent["message_id"], "--reason", reason, code=1)
    assert "bravo answers for it" in wrong.out
    done = runs["bravo"]("erase", "message", sent["message_id"], "--reason", reason)
    assert "erased" in done.out
    call = sent["call_id"]
    certificate = runs["bravo"]("erase", "certificate", call, "--wait", 60)
    assert reason in certificate.out
    assert "alpha" in certificate.out
    assert "destroyed" in certificate.out
    assert key_of(runs["alpha"].config, call) is None
    assert key_of(runs["bravo"].config, call) is None
    assert key_of(runs["alpha"].config, own["call_id"]) is not None
    assert sent["message_id"] not in pair.client("bravo").mailbox("2001")
    story = runs["alpha"]("message", "show", sent["message_id"])
    assert CALLER not in story.out
    assert reason in story.out


def certificate_of(pair: Pair, message: dict, file: Path) -> dict:
    pair.runs["alpha"]("erase", "message", message["message_id"], "--reason", "asked")
    pair.runs["alpha"]("erase", "certificate", message["call_id"], "--wait", 60, "--out", file)
    return json.loads(file.read_text())


def test_certificate_is_checked_against_what_its_event_says(pair: Pair, tmp_path):
    (_, own), (_, other) = pair.leave(), pair.leave()
    run, file = pair.runs["alpha"], tmp_path / "certificate.json"
    certificate = certificate_of(pair, own, file)
    check = ("erase", "check", file, "--config", run.config)
    assert own["call_id"] in run(*check).out
    file.write_text(json.dumps(certificate | {"call_id": other["call_id"]}))
    assert "NOT proved: its call_id" in run(*check, code=1).out
    file.write_text(json.dumps(certificate | {"reason": "a court order"}))
    assert "NOT proved: its reason" in run(*check, code=1).out


def test_event_that_is_no_erasure_certifies_none(pair: Pair, tmp_path):
    (_, own), (_, kept) = pair.leave(), pair.leave()
    run, file = pair.runs["alpha"], tmp_path / "certificate.json"
    certificate = certificate_of(pair, own, file)
    stored = run("log", "prove", kept["message_id"]).json["events"][-1]
    file.write_text(json.dumps(certificate | stored))
    told = run("erase", "check", file, "--config", run.config, code=1).out
    assert "NOT proved: its event is message-delivered, and no erasure" in told


def test_old_backups_do_not_bring_it_back_once_they_have_met_their_peers(pair: Pair):
    sent, own = pair.leave()
    places = pair.back_up()
    for name, message in (("bravo", sent), ("alpha", own)):
        run = pair.runs[name]
        run("erase", "message", message["message_id"], "--reason", "asked")
        run("erase", "certificate", message["message_id"], "--wait", 60)
    for name, run in pair.runs.items():
        known = [sent["call_id"], own["call_id"]] if name == "alpha" else [sent["call_id"]]
        pair.servers[name].kill9()
        lose(run.config)
        run("backup", "restore", places[name])
        assert all(key_of(run.config, call) for call in known), "keys of that day"
        pair.servers[name].start()
        eventually(lambda: not any(key_of(run.config, call) for call in known))  # noqa: B023
    eventually(lambda: sent["message_id"] not in pair.client("bravo").mailbox("2001"))
    eventually(lambda: own["message_id"] not in pair.client("alpha").mailbox("1001"))
    for run in pair.runs.values():
        run("log", "verify", "--blobs")


def test_recording_that_was_set_aside_is_opened_with_the_keys_of_its_server(pair: Pair, tmp_path):
    client, runs = pair.client("alpha"), pair.runs
    spoken = b"this is no sound at all, as any fool can hear"
    refused = client.record(client.report("1001"), spoken)
    assert refused.status_code == 422, refused.text
    (aside,) = (runs["alpha"].config.parent / "data/spool/set-aside").glob("*.zst")
    assert b"no sound at all" not in aside.read_bytes()
    out = tmp_path / "heard"
    runs["alpha"]("message", "open", aside, "--to", out)
    assert out.read_bytes() == spoken
    assert aside.name in runs["alpha"]("audit", "--json").out
    elsewhere = runs["bravo"]("message", "open", aside, "--to", tmp_path / "no", code=1)
    assert "key of call" in elsewhere.err
