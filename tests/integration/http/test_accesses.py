"""Whoever gets at what is personal is in the log: who, when, from where, and at what."""

import sqlite3
from uuid import UUID

import pytest

from ledger.ids import MailboxAddress
from vmledger.access import Scope
from vmledger.audit import Wanted, read_audit


def recorder_of(api):
    return api.program.server.parts.log.recorder


def recorded(api, message=None, **wanted):
    """Give what is recorded of accesses to a message, or of all."""
    recorder = recorder_of(api)
    return [
        (deed.action, deed.what, deed.by)
        for deed in read_audit(recorder, Wanted(**wanted))
        if message is None or deed.message_id == UUID(message["message_id"])
    ]


@pytest.fixture
def message(api, request):
    return api.leave_message("1801")


def sound(client, api, message, accept="audio/wav", **headers):
    return client.get(f"{api.message_path(message)}/audio", headers={"Accept": accept} | headers)


def test_playing_is_recorded_once_a_minute_whatever_ranges_are_asked_for(api, message):
    for piece in ("bytes=0-99", "bytes=100-199", "bytes=200-"):
        assert sound(api.operator, api, message, Range=piece).status_code == 206
    assert recorded(api, message) == [("played", "sound", "operator")]


def test_taking_the_sound_as_received_is_an_export(api, message):
    assert sound(api.operator, api, message, "audio/original").status_code == 200
    assert recorded(api, message) == [("exported", "sound", "operator")]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("Audio/Original", "exported"),
        ("audio/original ; q=0.5", "exported"),
        ("audio/wav, audio/original;q=0", "played"),
        ("audio/mpeg, audio/original;q=0.1", "played"),
    ],
)
def test_what_was_given_is_told_however_it_was_asked_for(api, message, accept, kind):
    assert sound(api.operator, api, message, accept).status_code == 200
    assert recorded(api, message) == [(kind, "sound", "operator")]


def test_who_from_where_and_what_are_told(api, message):
    owner = api.client(Scope.OWNER, mailboxes=("1801",))
    assert sound(owner, api, message, **{"Vmledger-User": "ann"}).status_code == 200
    wanted = Wanted(message_id=UUID(message["message_id"]))
    (deed,) = read_audit(recorder_of(api), wanted)
    assert (deed.by, deed.address, deed.user) == ("owner", "127.0.0.1", "ann")
    assert deed.mailbox == "1801@default"
    assert deed.token_id


def test_mailbox_shown_to_others_than_its_owner_is_recorded_once_in_ten_minutes(api):
    reader = api.client(Scope.READER)
    owner = api.client(Scope.OWNER, mailboxes=("1802",))
    for client in (owner, reader, owner, reader):
        assert client.get("/v1/mailboxes/1802").status_code == 200
    assert recorded(api, mailbox="1802@default") == [("viewed", "mailbox", "reader")]


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/v1/messages/{id}", ("viewed", "message")),
        ("/v1/messages/{id}/story?wait_s=0", ("viewed", "story")),
        ("/v1/log/proof/{id}", ("exported", "proof")),
    ],
)
def test_other_ways_to_a_message_are_recorded_too(api, message, path, what):
    answer = api.operator.get(path.format(id=message["message_id"]))
    assert answer.status_code == 200
    assert recorded(api, message) == [(*what, "operator")]


def test_the_shape_of_the_sound_is_not_shown_unrecorded(api, message):
    for client in (api.operator, api.client(Scope.OWNER, mailboxes=("1801",))):
        assert client.get(f"{api.message_path(message)}/peaks").status_code == 200
    assert recorded(api, message) == [("viewed", "message", "operator")]


def test_a_change_that_changes_nothing_and_shows_the_message_is_recorded(api, message):
    answer = api.operator.patch(api.message_path(message), json={"status": "restored"})
    assert answer.json()["caller_number"]
    assert recorded(api, message) == [("viewed", "message", "operator")]


def test_asking_what_a_caller_left_is_recorded_also_when_nothing_is_erased(api, message):
    client = api.client(Scope.OPERATOR, Scope.SWITCH)
    asked = {"caller": "+4930123", "reason": "curious", "dry_run": True}
    answer = client.post("/v1/erasures", json=asked)
    assert message["call_id"] in {one["call_id"] for one in answer.json()["calls"]}
    assert recorded(api, by="operator-switch") == [("viewed", "calls", "operator-switch")]


def test_reading_calls_and_the_log_is_recorded(api):
    client = api.client(Scope.OPERATOR, Scope.READER)
    for path in ("/v1/calls", "/v1/log", "/v1/calls"):
        assert client.get(path).status_code == 200
    assert recorded(api, by="operator-reader") == [
        ("viewed", "calls", "operator-reader"),
        ("exported", "log", "operator-reader"),
    ]


def test_what_was_not_given_is_not_recorded(api, message):
    other = api.message_path(message).replace("1801", "1803")
    assert api.operator.get(f"{other}/audio").status_code == 404
    assert recorded(api, message) == []


def test_deeds_of_a_mailbox_name_also_what_was_done_to_its_messages(api):
    message = api.leave_message("1804")
    path = api.message_path(message)
    assert api.operator.patch(path, json={"status": "heard"}).status_code == 200
    assert api.operator.delete(path).status_code == 204
    found = recorded(api, mailbox=str(MailboxAddress("1804")))
    assert found == [
        ("message-heard", None, "operator"),
        ("message-deleted", None, "operator"),
    ]


def test_sound_that_cannot_be_recorded_is_not_given_and_calls_are_taken(api, message):
    """The log refuses this kind of event only; calls go on."""
    recorder = recorder_of(api)
    trigger = (
        "CREATE TRIGGER no_accesses BEFORE INSERT ON events "
        "WHEN NEW.topic = 'content-accessed' BEGIN SELECT RAISE(FAIL, 'no room'); END"
    )
    with sqlite3.connect(recorder.path) as connection:
        connection.execute(trigger)
    try:
        refused = sound(api.operator, api, message, "audio/mpeg")
        assert refused.status_code >= 500
        assert "audio" not in refused.headers["content-type"]
        shown = api.client(Scope.READER).get("/v1/mailboxes/1801")
        assert shown.status_code == 200
        assert api.leave_message("1801")
    finally:
        with sqlite3.connect(recorder.path) as connection:
            connection.execute("DROP TRIGGER no_accesses")
    assert sound(api.operator, api, message, "audio/mpeg").status_code == 200
