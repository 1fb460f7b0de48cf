"""Commands that open the stores of a server themselves."""

import json
import re
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from ledger.events import BackupVerified
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from ledger.storage.open_recorder import open_recorder
from tests.integration.cli.test_export import write
from tests.support.command_line import CommandLine, environment
from tests.support.histories import History
from tests.support.pair import set_keys
from tests.support.processes import PROGRAM


def database(fresh: CommandLine) -> Path:
    return fresh.folder / "alpha" / "data" / "ledger.sqlite"


def append(fresh: CommandLine, *, count: int) -> None:
    """Write events as the server would."""
    recorder = open_recorder(f"sqlite:///{database(fresh)}")
    start = recorder.head().position
    events = [
        BackupVerified(
            originator_id=UUID(int=7),
            originator_version=start + number,
            recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
            recorded_by="alpha",
            position=number,
            place="nas",
        )
        for number in range(1, count + 1)
    ]
    recorder.commit([Append([to_stored_event(event) for event in events])])
    recorder.close()


def tamper(fresh: CommandLine, statement: str) -> None:
    """Change the log as somebody with the right to its file could, and hide how."""
    with sqlite3.connect(database(fresh)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = found.fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement).rowcount == 1
        for _, sql in triggers:
            connection.execute(sql)
    connection.close()


def test_new_server_has_a_configuration_keys_and_stores(fresh: CommandLine):
    folder = fresh.folder / "alpha"
    assert (folder / "data" / "ledger.sqlite").is_file()
    for secret in ("server.key", "tls.key", "master.key", "operator.token"):
        assert stat.S_IMODE((folder / "data" / secret).stat().st_mode) == 0o600
    assert "fine" in fresh("config", "check").out


def test_init_never_overwrites(fresh: CommandLine):
    before = (fresh.folder / "alpha" / "vmledger.toml").read_bytes()
    refused = fresh("init", "alpha", "--server", "alpha", code=1)
    assert "vmledger.toml" in refused.err or "server.key" in refused.err
    assert (fresh.folder / "alpha" / "vmledger.toml").read_bytes() == before


def test_configuration_is_shown_as_json(fresh: CommandLine):
    facts = fresh("config", "check", "--json").json
    assert facts["server"] == "alpha"
    assert facts["peers"] == []


def test_block_for_the_other_servers_names_this_one(fresh: CommandLine):
    block = fresh("config", "peers").out
    assert "[[servers]]" in block
    assert re.search(r'^id = "alpha"$', block, re.MULTILINE)
    assert "1000-1999" in block


def test_token_is_made_listed_without_its_secret_and_revoked(fresh: CommandLine):
    token = fresh("token", "create", "the-switch", "--scope", "switch").out.strip()
    _, token_id, secret = token.split("_")
    listed = fresh("token", "list", "--json")
    assert secret not in listed.out
    mine = next(t for t in listed.json["tokens"] if t["id"] == token_id)
    assert (mine["name"], mine["scopes"], mine["revoked_at"]) == ("the-switch", ["switch"], None)
    fresh("token", "revoke", token_id)
    listed = fresh("token", "list", "--json")
    assert next(t for t in listed.json["tokens"] if t["id"] == token_id)["revoked_at"]
    assert "the-switch" in fresh("token", "list").out


def test_unknown_token_cannot_be_revoked(fresh: CommandLine):
    assert "nonsense" in fresh("token", "revoke", "nonsense", code=1).err


def test_empty_log_verifies(fresh: CommandLine):
    verified = fresh("log", "verify", "--json").json["log"]
    assert verified["findings"] == []
    assert fresh("log", "checkpoint", "--json").json["position"] == verified["position"]


@pytest.mark.parametrize(
    "command", ["log", "log verify", "log checkpoint", "replay", "audit", "doctor"]
)
def test_log_that_is_gone_is_not_called_intact_nor_made_by_looking(
    fresh: CommandLine, command: str
):
    for file in database(fresh).parent.glob("ledger.sqlite*"):
        file.unlink()  # a disk that is not mounted, say
    told = fresh(*command.split(), code=1)
    assert "there is no log in" in told.out + told.err
    assert not database(fresh).exists()


def test_log_is_printed_line_by_line_and_as_json(fresh: CommandLine):
    append(fresh, count=4)
    entries = [json.loads(line) for line in fresh("log", "--json").out.splitlines()]
    assert [entry["position"] for entry in entries] == [1, 2, 3, 4]
    assert entries[0]["event"]["place"] == "nas"
    part = fresh("log", "--from", 2, "--limit", 2).out.splitlines()
    assert [line.split()[0] for line in part] == ["2", "3"]


def test_log_verifies(fresh: CommandLine):
    append(fresh, count=5)
    verified = fresh("log", "verify", "--json").json["log"]
    assert (verified["position"], verified["streams"], verified["findings"]) == (5, 1, [])
    assert "intact" in fresh("log", "verify", "--blobs").out


def test_swapped_events_are_found(fresh: CommandLine):
    append(fresh, count=5)
    tamper(
        fresh,
        "UPDATE events SET state = (SELECT state FROM events WHERE position = 4) "
        "WHERE position = 3",
    )
    findings = fresh("log", "verify", "--json", code=1).json["log"]["findings"]
    assert {finding["place"] for finding in findings} == {"position 3", "log head"}
    assert "restore" in fresh("log", "verify", code=1).out


def test_lost_event_is_found(fresh: CommandLine):
    append(fresh, count=5)
    tamper(fresh, "DELETE FROM events WHERE position = 3")
    findings = fresh("log", "verify", "--json", code=1).json["log"]["findings"]
    assert "position 3" in {finding["place"] for finding in findings}


def test_cut_log_is_found(fresh: CommandLine):
    append(fresh, count=5)
    tamper(fresh, "DELETE FROM events WHERE position = 5")
    findings = fresh("log", "verify", "--json", code=1).json["log"]["findings"]
    assert [finding["place"] for finding in findings] == ["position 5"]


def test_unreadable_event_is_found_with_its_place(fresh: CommandLine):
    append(fresh, count=5)
    tamper(fresh, "UPDATE events SET state = x'00ff' WHERE position = 2")
    findings = fresh("log", "verify", "--json", code=1).json["log"]["findings"]
    assert "2" in findings[0]["place"]


def test_message_is_found_though_its_read_model_was_never_built(fresh: CommandLine):
    history = History()
    message = history.call("1001").message_id
    write(fresh, history)
    told = fresh("message", "story", message, "--json").json["events"]
    assert told[0]["topic"] == "call-received"
    assert fresh("log", "prove", message).json["message_id"] == str(message)


def test_message_is_found_that_came_after_its_read_model_was_left(fresh: CommandLine):
    history = History()
    history.call("1001")
    write(fresh, history)
    fresh("projections", "rebuild")
    later = History(seed=2)
    message = later.call("1002").message_id
    write(fresh, later)
    assert "1002@default" in fresh("message", "story", message).out


def test_message_behind_an_event_that_stopped_its_read_model_is_not_called_unknown(
    fresh: CommandLine,
):
    history = History()
    history.act(replace(history.call("1001"), message_id=UUID(int=7)), "hear")
    culprit, message = history.position, history.call("1002").message_id
    write(fresh, history)
    for command in (("message", "story"), ("log", "prove")):
        assert f"(at position {culprit})" in fresh(*command, message, code=1).err
    first = history.taken[0].message_id
    assert "1001@default" in fresh("message", "story", first).out


def test_damaged_read_models_are_told_with_what_to_do(fresh: CommandLine):
    file = fresh.folder / "alpha" / "data" / "projections.sqlite"
    file.write_bytes(b"no database" * 1000)
    assert "remove the file" in fresh("projections", "rebuild", code=1).err
    checks = {c["name"]: c for c in fresh("doctor", "--json", code=1).json["checks"]}
    assert checks["projections"]["verdict"] == "fail"
    assert checks["log"]["verdict"] == "ok", "the other checks are made all the same"
    file.unlink()
    fresh("projections", "rebuild")


@contextmanager
def piped(command: list[str]) -> Generator[subprocess.Popen[bytes]]:
    """Run a command whose output is read here; it does not outlive the test."""
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_follower_of_the_log_sees_new_events_and_ends_cleanly_on_ctrl_c(fresh: CommandLine):
    command = [*PROGRAM, "log", "--follow", "--json", "--config", str(fresh.config)]
    with piped(command) as follower:
        assert follower.stdout is not None
        assert follower.stderr is not None
        for position in (1, 2):
            append(fresh, count=1)
            assert json.loads(follower.stdout.readline())["position"] == position
        follower.send_signal(signal.SIGINT)
        assert follower.stderr.read() == b""
        assert follower.wait() == 130


def test_closed_pipe_ends_the_log_without_a_word(fresh: CommandLine):
    append(fresh, count=2000)
    command = [*PROGRAM, "log", "--config", str(fresh.config)]
    with piped(command) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        assert reader.stdout.readline()
        reader.stdout.close()
        assert reader.stderr.read() == b""
        assert reader.wait() == 1


def test_empty_blob_store_verifies_and_has_nothing_to_collect(fresh: CommandLine):
    assert fresh("blobs", "verify", "--json").json["missing"] == []
    assert fresh("blobs", "gc", "--dry-run", "--json").json["freed_bytes"] == 0
    assert "recordings" in fresh("blobs", "verify").out
    assert "dropped" in fresh("blobs", "gc").out


def test_doctor_finds_a_new_server_well(fresh: CommandLine):
    checks = {check["name"]: check for check in fresh("doctor", "--json").json["checks"]}
    assert {check["verdict"] for check in checks.values()} == {"ok"}
    assert {"configuration", "server.key", "free disk", "log", "clock", "blobs"} <= checks.keys()


def test_doctor_fails_a_key_that_others_can_read(fresh: CommandLine):
    (fresh.folder / "alpha" / "data" / "operator.token").chmod(0o644)
    checks = {c["name"]: c for c in fresh("doctor", "--json", code=1).json["checks"]}
    assert checks["operator.token"]["verdict"] == "fail"
    assert "chmod 600" in checks["operator.token"]["advice"]


def test_projections_are_rebuilt_and_their_standing_is_shown(fresh: CommandLine):
    assert fresh("projections", "status", "--json").json == {"projections": []}
    append(fresh, count=3)
    rebuilt = fresh("projections", "rebuild", "--json").json["projections"]
    names = {"mailboxes", "pending", "calls", "servers", "profiles"}
    assert {one["name"] for one in rebuilt} == names
    assert {(one["position"], one["is_serving"]) for one in rebuilt} == {(3, True)}
    again = fresh("projections", "rebuild", "mailboxes", "--json").json["projections"]
    numbers = {one["name"]: one["number"] for one in again}
    assert numbers["mailboxes"] == numbers["calls"] + 1, "only the one that was named"
    assert "mailboxes" in fresh("projections", "status").out


def test_unknown_projection_is_not_rebuilt(fresh: CommandLine):
    assert "nonsense" in fresh("projections", "rebuild", "nonsense", code=1).err


def test_a_rebuild_on_a_disk_that_is_too_full_is_refused_with_what_to_do(fresh: CommandLine):
    keep_free(fresh, 1 << 50)
    assert "free some space" in fresh("projections", "rebuild", code=1).err


def test_doctor_warns_where_batches_wait_and_fails_where_recordings_are_refused(
    fresh: CommandLine,
):
    keep_free(fresh, 1 << 50)
    checks = {c["name"]: c for c in fresh("doctor", "--json").json["checks"]}
    assert checks["free disk"]["verdict"] == "warn"
    assert "batches" in checks["free disk"]["advice"]
    keep_free(fresh, 1 << 50, "min_free_disk_bytes")
    checks = {c["name"]: c for c in fresh("doctor", "--json", code=1).json["checks"]}
    assert checks["free disk"]["verdict"] == "fail"


def keep_free(
    fresh: CommandLine, size_bytes: int, key: str = "min_free_disk_for_batches_bytes"
) -> None:
    set_keys(fresh.folder / "alpha" / "vmledger.toml", **{key: size_bytes})
