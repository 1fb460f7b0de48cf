"""Two real servers vouch for each other's logs, and one of them is tampered with."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger import events as e
from ledger.configuration import load_configuration
from ledger.identity import public_key_text
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from ledger.storage.open_recorder import open_recorder, upgrade
from tests.support.command_line import CommandLine
from tests.support.pair import Client, write_pair
from tests.support.processes import Servers, wait_for

SETTLE_S = 60.0

pytestmark = pytest.mark.timeout(400)


class Pair:
    """Alpha and bravo, both running."""

    def __init__(self, folder: Path, files: dict[str, Path], servers: Servers) -> None:
        self.servers = servers
        self.files = files
        self.alpha, self.bravo = (CommandLine(folder, files[name]) for name in files)
        self.client = Client(servers["alpha"])

    def witnessed(self) -> int:
        """Say up to where bravo co-signed alpha's log."""
        told = self.alpha("log", "checkpoint", "--json").json["witnesses"]
        return max((one["position"] for one in told), default=0)

    def leave_messages(self, count: int) -> int:
        """Leave some at alpha, wait until bravo vouches for all of them, and say up to where."""
        for _ in range(count):
            self.client.leave("1001")
        position = self.alpha("log", "checkpoint", "--json").json["position"]
        assert wait_for(lambda: self.witnessed() >= position, SETTLE_S)
        return position


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    files = write_pair(tmp_path)
    with Servers(list(files.values())) as servers:
        for name in files:
            servers[name].start()
        yield Pair(tmp_path, files, servers)


def test_log_is_witnessed_and_so_is_the_proof_of_a_message(pair: Pair, tmp_path: Path):
    message = pair.client.leave("1001")
    position = pair.leave_messages(2)

    facts = pair.alpha("log", "verify", "--json").json["log"]
    assert facts["findings"] == []
    assert [one["server"] for one in facts["witnesses"]] == ["bravo"]
    assert facts["witnesses"][0]["position"] >= position
    assert "by bravo up to position" in pair.alpha("log", "verify").out
    assert "— vmledger/bravo " in pair.alpha("log", "checkpoint", "--witnessed").out
    witnessed = pair.client.http.get("/v1/log/tlog/checkpoint", params={"witnessed": True})
    assert "— vmledger/bravo " in witnessed.text
    servers = {s["id"]: s for s in pair.alpha("servers", "--json").json["servers"]}
    assert servers["bravo"]["witnessed_position"] >= position
    assert servers["bravo"]["fork_witnessed_at"] is None
    assert "bravo up to" in pair.alpha("doctor").out

    proof = tmp_path / "proof.json"
    pair.alpha("log", "prove", message["message_id"], "--out", proof)
    keys = [
        f"--key={server.id}={public_key_text(server.public_key)}"
        for server in load_configuration(pair.files["alpha"]).directory.servers.values()
    ]
    checked = pair.alpha("log", "check-proof", proof, *keys, "--json").json
    assert checked["holds"]
    assert list(checked["report"]["witnesses"]) == ["bravo"]
    spoilt = json.loads(proof.read_text())
    for event in spoilt["events"]:
        line = next(x for x in event["proof"].split("\n") if x.startswith("— vmledger/bravo "))
        name, signature = line.rsplit(" ", 1)
        other = signature[:40] + ("A" if signature[40] != "A" else "B") + signature[41:]
        event["proof"] = event["proof"].replace(line, f"{name} {other}")
    proof.write_text(json.dumps(spoilt))
    assert "did not co-sign" in pair.alpha("log", "check-proof", proof, *keys, code=1).out


def test_whoever_rewrites_a_log_with_all_its_hashes_is_seen_by_its_witness(pair: Pair):
    """Everything in the file fits together afterwards, and it was the file's own server's doing."""
    pair.leave_messages(3)
    pair.servers["alpha"].stop()
    rewrite(pair.files["alpha"].parent / "data" / "ledger.sqlite")
    verified = pair.alpha("log", "verify", "--json")
    assert verified.json["log"]["findings"] == []

    pair.servers["alpha"].start()

    def seen() -> dict[str, Any]:
        servers = pair.bravo("servers", "--json").json["servers"]
        return next(server for server in servers if server["id"] == "alpha")

    assert wait_for(lambda: seen()["went_back_at"] or seen()["fork_witnessed_at"], SETTLE_S)
    shown = pair.bravo("servers").out
    assert "went back, seen" in shown or "FORKED, seen" in shown
    doctor = pair.bravo("doctor", "--json").json["checks"]
    (history,) = [check for check in doctor if check["name"] == "history of alpha"]
    assert history["verdict"] in {"warn", "fail"}

    acknowledge = ("log", "acknowledge", "alpha", "--reason", "a test rewrote it")
    if history["verdict"] == "fail":  # two histories of one log are never all right
        pair.bravo(*acknowledge, code=1)
        return
    pair.bravo(*acknowledge)
    doctor = pair.bravo("doctor", "--json").json["checks"]
    (history,) = [check for check in doctor if check["name"] == "history of alpha"]
    assert history["verdict"] == "ok"
    assert "acknowledged by local-operator" in history["found"]
    assert "a test rewrote it" in history["found"]


def rewrite(file: Path) -> None:
    """Write another caller's number into the first call, and a log around that as if always so."""
    recorder = open_recorder(f"sqlite:///{file}")
    head = recorder.head()
    events = [e.decode(entry.plain) for entry in recorder.read(1, head.position)]
    keys = recorder.read_keys([event.originator_id for event in events])
    recorder.close()
    new = file.with_name("new.sqlite")
    upgrade(f"sqlite:///{new}", incarnation=head.incarnation)
    forged = open_recorder(f"sqlite:///{new}")
    changed = next(i for i, event in enumerate(events) if isinstance(event, e.CallReceived))
    call = events[changed]
    assert isinstance(call, e.CallReceived)
    events[changed] = msgspec.structs.replace(call, personal=e.Caller(number="666"))
    forged.commit([Append([to_stored_event(event)]) for event in events])
    forged.commit([Append([], keys=list(keys.values()))])
    forged.close()
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    with closing(sqlite3.connect(new)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    new.rename(file)
