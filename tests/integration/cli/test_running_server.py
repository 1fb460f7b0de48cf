"""Commands that talk to a running server."""

import hashlib
import itertools
import json
import re
import stat
import uuid
from importlib import resources
from pathlib import Path

import pytest

from ledger.checkpoint import parse_checkpoint
from ledger.configuration import load_configuration
from ledger.identity import public_key_text
from ledger.signed_note import parse_key
from tests.integration.cli.conftest import Running
from tests.support.command_line import CommandLine

SPEECH = min(Path(str(resources.files("vmledger") / "speech")).glob("*.wav"))
UNUSED = itertools.count(100)


@pytest.fixture
def vmledger(running: Running) -> CommandLine:
    return running.vmledger


def leave_message(vmledger: CommandLine, to: str, caller: str = "+15550100") -> str:
    said = vmledger(
        "call", "--from", caller, "--name", "Ann [b]Lee", "--to", to,
        "--status", "no-answer", "--audio", SPEECH, "--json",
    )  # fmt: skip
    return said.json["message"]["message_id"]


def fresh_extension(home: int) -> str:
    """A mailbox that no other test uses."""
    return f"{home}{next(UNUSED)}"


def test_call_becomes_a_message_in_its_mailbox(vmledger: CommandLine):
    extension = fresh_extension(1)
    message = leave_message(vmledger, extension)
    page = vmledger("mailbox", extension, "--json").json
    assert [m["message_id"] for m in page["messages"]] == [message]
    table = vmledger("mailbox", extension).out
    assert message in table
    assert "Ann [b]Lee" in table, "what callers send is not read as markup"


def test_name_of_a_caller_neither_moves_the_cursor_nor_begins_a_line(vmledger: CommandLine):
    extension = fresh_extension(1)
    name = "Ann\x1b[2J\nstatus     heard\x9b0m"
    call = ("call", "--to", extension, "--from", "+1\r9", "--name", name, "--status", "busy")
    message = vmledger(*call, "--audio", SPEECH, "--json").json["message"]["message_id"]
    for shown in (
        ("mailbox", extension),
        ("calls", "--to", extension),
        ("message", "show", message),
    ):
        said = vmledger(*shown).out
        assert not set(said) & {"\x1b", "\r", "\x9b"}, said
        assert not re.search(r"^ *status +heard", said, re.MULTILINE), said
    assert vmledger("mailbox", extension, "--json").json["messages"][0]["caller_name"] == name


def test_answered_call_is_handled_normally(vmledger: CommandLine):
    said = vmledger("call", "--to", "1001", "--status", "answered", "--json").json
    assert said["message"] is None
    assert said["decision"]["transfer"] is False
    assert "handled normally" in vmledger("call", "--to", "1001", "--status", "answered").out


def test_extension_without_calls_does_not_mean_that_none_was_taken(vmledger: CommandLine):
    vmledger("call", "--to", "1001", "--status", "answered")
    said = vmledger("calls", "--to", fresh_extension(1)).out
    assert "yet" not in said
    assert "no call for 1" in said


def test_repeated_call_with_its_id_is_one_message(vmledger: CommandLine):
    extension = fresh_extension(1)
    call = ["call", "--to", extension, "--status", "busy", "--audio", SPEECH]
    for _ in range(2):
        vmledger(*call, "--call-id", "01890000-0000-7000-8000-" + extension.zfill(12))
    assert len(vmledger("mailbox", extension, "--json").json["messages"]) == 1


def test_exported_sound_is_what_was_handed_over(vmledger: CommandLine, tmp_path: Path):
    message = leave_message(vmledger, fresh_extension(1))
    target = tmp_path / "sound.wav"
    vmledger("message", "export", message, "--to", target)
    assert (
        hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(SPEECH.read_bytes()).digest()
    )
    assert "exists" in vmledger("message", "export", message, "--to", target, code=2).err


def test_sound_is_for_its_owner_only_also_in_a_file_that_was_for_all(
    vmledger: CommandLine, tmp_path: Path
):
    message = leave_message(vmledger, fresh_extension(1))
    target = tmp_path / "sound.wav"
    target.write_bytes(b"of before")
    target.chmod(0o644)
    vmledger("message", "export", message, "--to", target, "--force")
    assert target.read_bytes() == SPEECH.read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    vmledger("message", "export", message, "--to", "/dev/null", "--force")


def test_message_is_heard_saved_deleted_and_restored(vmledger: CommandLine):
    message = leave_message(vmledger, fresh_extension(1))
    seen = []
    for command in ("heard", "save", "delete", "restore"):
        vmledger("message", command, message)
        seen.append(vmledger("message", "show", message, "--json").json["status"])
    assert seen == ["heard", "saved", "deleted", "saved"]
    assert message in vmledger("message", "show", message).out


def test_story_of_a_message_begins_with_its_call(vmledger: CommandLine):
    message = leave_message(vmledger, fresh_extension(1))
    vmledger("message", "heard", message)
    told = vmledger("message", "story", message, "--json").json["events"]
    assert [event["topic"] for event in told] == [
        "call-received",
        "transfer-decided",
        "message-stored",
        "message-delivered",
        "message-heard",
    ]
    assert "called_extension" in vmledger("message", "story", message).out


def test_mailbox_is_shown_as_it_was_at_a_position(vmledger: CommandLine):
    extension = fresh_extension(1)
    leave_message(vmledger, extension)
    position = vmledger("log", "checkpoint", "--json").json["position"]
    leave_message(vmledger, extension)
    assert len(vmledger("mailbox", extension, "--json").json["messages"]) == 2
    past = vmledger("mailbox", extension, "--position", position, "--json").json
    assert len(past["messages"]) == 1


def test_mailbox_before_its_first_message_is_empty(vmledger: CommandLine):
    extension = fresh_extension(1)
    leave_message(vmledger, extension)
    assert "empty" in vmledger("mailbox", extension, "--at", "2026-01-01").out


def test_message_for_a_dead_home_is_pending_here(vmledger: CommandLine):
    message = leave_message(vmledger, fresh_extension(2))
    pending = vmledger("pending", "--json").json
    assert {home["home"] for home in pending["homes"]} == {"bravo"}
    assert message in {m["message_id"] for m in pending["messages"]}
    table = vmledger("pending").out
    assert "bravo" in table
    assert message in table


def test_unknown_message_is_a_negative_finding(vmledger: CommandLine):
    stranger = uuid.uuid4()
    for command in ("show", "story", "heard", "export"):
        assert str(stranger) in vmledger("message", command, stranger, code=1).err


def test_servers_and_calls_are_listed(vmledger: CommandLine):
    leave_message(vmledger, "1001", "+15550199")
    assert "bravo" in {s["id"] for s in vmledger("servers", "--json").json["servers"]}
    assert "bravo" in vmledger("servers").out
    assert "+15550199" in vmledger("calls", "--to", "1001").out
    assert vmledger("calls", "--json").json["calls"]


def test_wrong_token_is_wrong_usage(vmledger: CommandLine):
    assert "token" in vmledger("pending", "--token", "vml_0_0", code=2).err


def test_log_verifies_beside_the_running_server_with_its_audio(vmledger: CommandLine):
    leave_message(vmledger, "1003")
    verified = vmledger("log", "verify", "--blobs", "--json").json
    assert verified["log"]["findings"] == []
    assert verified["blobs"]["checked"] >= 1
    assert "intact" in vmledger("log", "verify").out


def test_verified_backup_is_recorded(vmledger: CommandLine):
    position = vmledger("log", "checkpoint", "--json").json["position"]
    vmledger("log", "backup-verified", "--position", position, "--place", "nas:/monday")
    topics = [json.loads(line)["topic"] for line in vmledger("log", "--json").out.splitlines()]
    assert "backup-verified" in topics


def test_projections_are_listed_and_rebuilt(vmledger: CommandLine):
    status = vmledger("projections", "status", "--json").json
    names = {p["name"] for p in status["projections"]}
    assert {"mailboxes", "pending", "calls", "servers"} <= names
    assert "mailboxes" in vmledger("projections", "status").out


def test_blobs_verify(vmledger: CommandLine):
    leave_message(vmledger, "1005")
    report = vmledger("blobs", "verify", "--json").json
    assert report["checked"] >= 1
    assert report["missing"] == report["corrupt"] == []


def test_doctor_warns_of_the_dead_peer_and_fails_nothing(vmledger: CommandLine):
    checks = {c["name"]: c for c in vmledger("doctor", "--json").json["checks"]}
    assert checks["peer bravo"]["verdict"] == "warn"
    assert {c["verdict"] for name, c in checks.items() if not name.startswith("peer")} <= {
        "ok",
        "warn",
    }
    assert re.search(r"warn\s+peer bravo", vmledger("doctor").out)


def test_proof_of_a_message_is_checked_without_the_server(vmledger: CommandLine):
    message = leave_message(vmledger, fresh_extension(1))
    said = vmledger("log", "prove", message, "--out", f"{message}.json").out
    assert "check it with" in said
    config = load_configuration(vmledger.config)
    key = public_key_text(config.directory.own.public_key)
    nowhere = CommandLine(vmledger.folder)
    checked = nowhere(
        "log", "check-proof", f"{message}.json", "--key", f"alpha={key}", "--audio", SPEECH
    ).out
    assert "the recording" in checked
    assert "holds" in checked
    assert "NOT" not in checked


def test_proof_that_was_changed_does_not_hold_and_says_where(vmledger: CommandLine):
    extension, other = fresh_extension(1), fresh_extension(1)
    message = leave_message(vmledger, extension)
    proof = vmledger("log", "prove", message).out
    changed = vmledger.folder / "changed.json"
    changed.write_text(proof.replace(f"{extension}@default", f"{other}@default"))
    told = vmledger("log", "check-proof", changed, "--config", vmledger.config, code=1).out
    assert re.search(r"NOT proved: position \d+ of the log is not this event", told)
    unsigned = vmledger.folder / "whole.json"
    unsigned.write_text(proof)
    told = vmledger("log", "check-proof", unsigned, code=1).out
    assert "public key of server alpha was not given" in told


def test_file_that_is_no_proof_cannot_write_that_it_holds(vmledger: CommandLine):
    message = leave_message(vmledger, fresh_extension(1))
    proof = json.loads(vmledger("log", "prove", message).out)
    forged = vmledger.folder / "forged.json"
    forged.write_text(json.dumps(proof | {"server": "alpha\nproof  holds\x1b[8m"}))
    told = vmledger("log", "check-proof", forged, "--config", vmledger.config, code=1).out
    assert "\x1b" not in told
    assert re.findall(r"^proof +(.*)$", told, re.MULTILINE) == ["does NOT hold"]


def test_another_recording_is_not_that_of_the_proof(vmledger: CommandLine):
    message = leave_message(vmledger, fresh_extension(1))
    (vmledger.folder / "proof.json").write_text(vmledger("log", "prove", message).out)
    other = max(SPEECH.parent.glob("*.wav"))
    told = vmledger(
        "log", "check-proof", "proof.json", "--config", vmledger.config, "--audio", other, code=1
    ).out
    assert "NOT the recording" in told


def test_signed_checkpoint_is_a_note_that_anybody_can_check(vmledger: CommandLine):
    note, checkpoint = parse_checkpoint(vmledger("log", "checkpoint", "--signed").out)
    facts = vmledger("log", "checkpoint", "--json").json
    assert note.is_signed_by(parse_key(facts["key"]))
    assert checkpoint.log == f"vmledger/alpha/{facts['incarnation']}"
