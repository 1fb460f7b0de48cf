"""Rules move what is old to the trash and out of it, unless a hold stops them; all are events."""

import json
import time
from uuid import UUID

import msgspec
import pytest

from ledger.configuration import Directory
from ledger.events import MailboxHeld, MailboxReleased, MessageErased, decode
from ledger.message import Action
from tests.support.api import make_configuration, running_api
from vmledger.audit import Wanted, read_audit

A_SECOND = 1 / 86_400
"""In days."""


def configuration(folder, **rules):
    config = make_configuration(folder)
    retention = msgspec.structs.replace(config.retention, **rules)
    return msgspec.structs.replace(config, retention=retention)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A server whose rules count seconds as days."""
    rules = {"trash_after_days": A_SECOND, "erase_trash_after_days": A_SECOND}
    with running_api(configuration(tmp_path_factory.mktemp("api"), **rules)) as running:
        yield running


def run(api, message=None, *, dry_run=False):
    """Carry out what is due; gives what was done to a message."""
    answer = api.operator.post("/v1/retention/run", json={"dry_run": dry_run})
    assert answer.status_code == 200, answer.text
    assert answer.json()["is_complete"]
    found = answer.json()["messages"]
    return [
        (one["step"], one["is_held"])
        for one in found
        if message is None or one["message_id"] == message["message_id"]
    ]


def status(api, message):
    answer = api.operator.get(api.message_path(message))
    return answer.json()["status"] if answer.status_code == 200 else answer.status_code


def wait():
    time.sleep(1.2)


def test_old_message_goes_to_the_trash_and_then_for_good(api):
    message = api.leave_message("1501")
    assert run(api, message) == []
    wait()
    assert run(api, message, dry_run=True) == [("trash", False)]
    assert status(api, message) == "new"
    assert run(api, message) == [("trash", False)]
    assert status(api, message) == "deleted"
    assert run(api, message) == []
    wait()
    assert run(api, message, dry_run=True) == [("erase", False)]
    assert status(api, message) == "deleted"
    assert run(api, message) == [("erase", False)]
    assert status(api, message) == 404
    deeds = list(read_audit(api.program.server.parts.log.recorder, Wanted(by="retention")))
    told = [d.action for d in deeds if str(d.message_id) == message["message_id"]]
    assert told == ["message-deleted", "message-erased"]
    certificate = api.operator.get(f"/v1/erasures/{message['call_id']}").json()
    assert certificate["is_key_destroyed"]
    assert certificate["told"] == [], "nobody else was sent it"


def test_restored_message_is_given_its_time_again_and_a_saved_one_stays(api):
    message = api.leave_message("1502")
    wait()
    assert run(api, message) == [("trash", False)]
    for change in ("restored", "saved"):
        assert api.operator.patch(api.message_path(message), json={"status": change}).is_success
        assert run(api, message) == []
    wait()
    assert run(api, message) == []
    assert status(api, message) == "saved"


def test_message_that_was_listened_to_again_is_given_its_time_again(api):
    message = api.leave_message("1505")
    for _ in range(2):
        wait()
        assert api.operator.patch(api.message_path(message), json={"status": "heard"}).is_success
    assert run(api, message) == []
    assert status(api, message) == "heard"


@pytest.mark.parametrize(
    ("deed", "then"), [(Action.SAVE, "saved"), (Action.HEAR, "heard"), (Action.DELETE, "deleted")]
)
def test_message_to_which_something_is_done_while_rules_are_carried_out_is_let_be(
    api, monkeypatch, deed, then
):
    message = api.leave_message("1506")
    ids = UUID(message["call_id"]), UUID(message["message_id"])
    server = api.program.server
    is_held = server.is_held

    async def act_and_ask(mailbox):
        """The owner is quicker than the rule that found the message."""
        if str(mailbox) == message["mailbox"]:
            await server.act_on_message(*ids, deed, "owner")
        return await is_held(mailbox)

    wait()
    monkeypatch.setattr(server, "is_held", act_and_ask)
    assert run(api, message) == []
    assert status(api, message) == then
    deeds = read_audit(server.parts.log.recorder, Wanted(by="retention", message_id=ids[1]))
    assert list(deeds) == []


def test_message_that_left_the_trash_meanwhile_and_is_in_it_again_is_not_erased(api, monkeypatch):
    message = api.leave_message("1507")
    ids = UUID(message["call_id"]), UUID(message["message_id"])
    server = api.program.server
    is_held = server.is_held

    async def restore_delete_and_ask(mailbox):
        if str(mailbox) == message["mailbox"]:
            await server.act_on_message(*ids, Action.RESTORE, "owner")
            await server.act_on_message(*ids, Action.DELETE, "owner")
        return await is_held(mailbox)

    assert api.operator.delete(api.message_path(message)).status_code == 204
    wait()
    monkeypatch.setattr(server, "is_held", restore_delete_and_ask)
    assert run(api, message) == []
    assert status(api, message) == "deleted"


def test_hold_stops_both_rules_until_it_is_released(api):
    kept, trashed = api.leave_message("1503"), api.leave_message("1503")
    assert api.operator.delete(api.message_path(trashed)).status_code == 204
    path = "/v1/mailboxes/1503/hold"
    assert api.operator.post(path, json={"reason": "case 12"}).json()["is_held"]
    assert api.operator.post(path, json={"reason": "again"}).status_code == 200
    wait()
    assert (run(api, kept), run(api, trashed)) == ([("trash", True)], [("erase", True)])
    assert (status(api, kept), status(api, trashed)) == ("new", "deleted")
    assert api.operator.patch(api.message_path(trashed), json={"status": "restored"}).is_success
    assert api.operator.delete(api.message_path(trashed)).status_code == 204
    assert not api.operator.delete(path, params={"reason": "over"}).json()["is_held"]
    wait()
    assert run(api)
    assert (status(api, kept), status(api, trashed)) == ("deleted", 404)
    log = api.program.server.parts.log.recorder
    events = [decode(entry.plain) for entry in log.read(1, 100_000)]
    held = [e for e in events if isinstance(e, MailboxHeld | MailboxReleased)]
    assert [(e.topic, e.mailbox, e.by, e.reason) for e in held] == [
        ("mailbox-held", "1503@default", "operator", "case 12"),
        ("mailbox-released", "1503@default", "operator", "over"),
    ]
    erased = [e.reason for e in events if isinstance(e, MessageErased)]
    assert any("in the trash for" in reason for reason in erased)


def test_message_for_another_home_is_left_to_it(api):
    message = api.leave_message("2001")
    wait()
    assert run(api, message) == []


def test_only_the_home_holds_a_mailbox(api):
    answer = api.operator.post("/v1/mailboxes/2001/hold", json={"reason": "case 13"})
    assert answer.status_code in {409, 421}
    assert "bravo" in answer.text


def test_without_rules_nothing_is_ever_due(tmp_path):
    with running_api(make_configuration(tmp_path)) as running:
        message = running.leave_message("1501")
        wait()
        assert run(running) == []
        assert status(running, message) == "new"


def test_certificate_names_the_mirror_that_still_has_the_key_of_what_a_rule_erased(tmp_path):
    rules = {"trash_after_days": 0.0, "erase_trash_after_days": A_SECOND}
    config = configuration(tmp_path, **rules)
    own = msgspec.structs.replace(config.directory.own, mirrors=("bravo",))
    directory = Directory("alpha", [own, *config.directory.peers])
    with running_api(msgspec.structs.replace(config, directory=directory)) as api:
        message = api.leave_message("1501")
        assert api.operator.delete(api.message_path(message)).status_code == 204
        wait()
        assert run(api, message) == [("erase", False)]
        certificate = api.operator.get(f"/v1/erasures/{message['call_id']}").json()
    assert json.loads(certificate["event"])["told_to"] == [], "nobody else was sent the call"
    assert certificate["told"] == [
        {
            "server": "bravo",
            "has_answered": False,
            "kept_because": None,
            "mirror_has_taken_in": False,
        }
    ], "bravo does not run"
