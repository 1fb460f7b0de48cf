"""Replaying the log: mailboxes and lamps of the past, and calls under another configuration."""

import itertools
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Running
from tests.integration.cli.test_running_server import leave_message
from tests.support.command_line import CommandLine

UNUSED = itertools.count(500)


@pytest.fixture
def vmledger(running: Running) -> CommandLine:
    return running.vmledger


@pytest.fixture
def extension() -> str:
    """A mailbox at alpha that no other test uses."""
    return f"1{next(UNUSED)}"


def position(vmledger: CommandLine) -> int:
    return vmledger("log", "checkpoint", "--json").json["position"]


def replay(vmledger: CommandLine, *arguments: object):
    return vmledger("replay", *arguments, "--json").json


def test_mailbox_and_lamp_are_what_they_were_at_each_position(vmledger, extension):
    before = position(vmledger)
    message = leave_message(vmledger, extension)
    lit = position(vmledger)
    vmledger("message", "heard", message)
    ask = ("--mailbox", extension, "--until")
    lamps = [replay(vmledger, *ask, at)["is_lamp_lit"] for at in (before, lit, 10**9)]
    assert lamps == [False, True, False]
    held = replay(vmledger, *ask, lit)["mailbox"]["entries"]
    assert [entry["message_id"] for entry in held] == [message]
    assert {entry["caller_state"] for entry in held} == {"known"}
    assert all("caller" not in entry for entry in held)
    said = vmledger("replay", *ask, lit).out
    assert "lit" in said
    assert message in said
    assert "it held no message" in vmledger("replay", *ask, before).out


def test_replayed_mailbox_names_who_called(vmledger, extension):
    leave_message(vmledger, extension)
    said = vmledger("replay", "--mailbox", extension).out
    assert "+15550100" in said, said


def test_mailbox_is_replayed_at_a_time(vmledger, extension):
    leave_message(vmledger, extension)
    long_ago = replay(vmledger, "--mailbox", extension, "--until", "2020-01-01")
    assert (long_ago["position"], long_ago["is_lamp_lit"]) == (0, False)
    assert replay(vmledger, "--mailbox", extension, "--until", "2999-01-01")["is_lamp_lit"]


def test_same_position_replays_to_the_same_digest(vmledger, extension):
    leave_message(vmledger, extension)
    at = position(vmledger)
    first = replay(vmledger, "--until", at)
    leave_message(vmledger, extension)
    assert replay(vmledger, "--until", at) == first
    assert replay(vmledger)["mailboxes_digest"] != first["mailboxes_digest"]


def other_policy(vmledger: CommandLine, name: str, **replaced: str) -> Path:
    """The server's configuration with other words in it."""
    text = vmledger.config.read_text()
    for old, new in replaced.items():
        assert old in text, text
        text = text.replace(old, new)
    path = vmledger.config.with_name(name)
    path.write_text(text)
    return path


def differences_of(vmledger: CommandLine, extension: str, policy: Path):
    what_if = replay(vmledger, "--policy", policy)["what_if"]
    return [d for d in what_if["differences"] if d["called_extension"] == extension]


def test_own_policy_changes_no_decision(vmledger, extension):
    leave_message(vmledger, extension)
    what_if = replay(vmledger, "--policy", vmledger.config)["what_if"]
    assert what_if["differences"] == []
    assert what_if["calls"] >= 1


def test_call_that_another_policy_would_not_take_is_reported_with_both_decisions(
    vmledger, extension
):
    leave_message(vmledger, extension)
    policy = vmledger.config.with_name("strict.toml")
    table = f'\n[[mailboxes]]\nextensions = ["{extension}"]\nvoicemail_for = ["busy"]\n'
    policy.write_text(vmledger.config.read_text() + table)
    (found,) = differences_of(vmledger, extension, policy)
    assert found["then"]["to_voicemail"]
    assert found["would_be"]["reason"] == "policy-forbids"
    assert found["status"] == "no-answer"
    assert "to_voicemail" in found["changed"]
    said = vmledger("replay", "--policy", policy).out
    assert "handled normally: policy-forbids" in said


def test_home_that_nobody_judged_then_counts_as_not_reachable(vmledger, extension):
    leave_message(vmledger, extension)
    swapped = {"1000-1999": "HERE", "2000-2999": "1000-1999", "HERE": "2000-2999"}
    policy = other_policy(vmledger, "swapped.toml", **swapped)
    (found,) = differences_of(vmledger, extension, policy)
    assert (found["then"]["home"], found["would_be"]["home"]) == ("alpha", "bravo")
    assert found["would_be"]["is_reachable"] is False
    assert found["is_home_unjudged"]


def test_policy_of_another_server_is_wrong_usage(vmledger):
    bravo = vmledger.config.parents[1] / "bravo" / "vmledger.toml"
    assert "is of server bravo" in vmledger("replay", "--policy", bravo, code=2).err
