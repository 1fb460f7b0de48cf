"""What is erased cannot be read any more, by anybody, and the log says who asked."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from ledger.events import (
    CallAbandoned,
    Caller,
    CallErased,
    CallReceived,
    CallStatus,
    MessageErased,
    Stamp,
    decode,
)
from ledger.ids import erasure_stream_id, message_stream_id
from ledger.migration.erasure_answers import answer_to_record
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from tests.support.api import some_id, wav
from vmledger.access import Scope
from vmledger.audit import read_audit
from vmledger.message_proof import check_entry


def erase(api, **asked):
    answer = api.operator.post("/v1/erasures", json={"reason": "a letter of 3 May"} | asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["is_complete"]
    return answer.json()["calls"]


def outcomes(calls) -> dict[str | None, str]:
    return {one["message_id"]: one["outcome"] for one in calls}


def sound(api, message) -> int:
    extension = message["mailbox"].partition("@")[0]
    path = f"/v1/mailboxes/{extension}/messages/{message['message_id']}/audio"
    return api.operator.get(path).status_code


def certificate(api, message) -> dict:
    answer = api.operator.get(f"/v1/erasures/{message['call_id']}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def call(api, call_id: str) -> dict:
    shown = api.operator.get("/v1/calls", params={"limit": 500}).json()["calls"]
    return next(one for one in shown if one["call_id"] == call_id)


def test_erased_message_is_gone_and_its_caller_too_at_any_past_moment(api):
    kept, gone = api.leave_message("1810"), api.leave_message("1810")
    then = api.program.stores.recorder.head().position
    assert outcomes(erase(api, message_id=gone["message_id"])) == {gone["message_id"]: "erased"}
    shown = api.operator.get("/v1/mailboxes/1810").json()["messages"]
    assert [one["message_id"] for one in shown] == [kept["message_id"]]
    assert (sound(api, kept), sound(api, gone)) == (200, 404)
    before = api.operator.get(f"/v1/mailboxes/1810?position={then}").json()["messages"]
    assert {one["message_id"]: one["caller_state"] for one in before} == {
        kept["message_id"]: "known",
        gone["message_id"]: "erased",
    }
    assert call(api, gone["call_id"])["caller_state"] == "erased"
    call_id = UUID(gone["call_id"])
    assert api.program.stores.vault.keys([call_id]) == {call_id: None}


def test_log_says_who_asked_and_why_and_still_verifies(api):
    message = api.leave_message("1811")
    erase(api, message_id=message["message_id"])
    recorder = api.program.stores.recorder
    (entry,) = recorder.read_streams([erasure_stream_id(UUID(message["call_id"]))]).popitem()[1]
    event = decode(entry.plain)
    assert isinstance(event, CallErased)
    assert (event.reason, event.told_to) == ("a letter of 3 May", ("bravo",))
    assert event.by == "operator"
    deeds = [deed for deed in read_audit(recorder) if deed.position == entry.position]
    assert [(deed.action, deed.what) for deed in deeds] == [
        ("call-erased", f"call {message['call_id']}")
    ]
    (before,) = recorder.read(entry.position - 1, 1)
    assert isinstance(decode(before.plain), MessageErased), "in the same commit"


def test_certificate_proves_the_erasure_and_says_who_has_not_taken_it_in_yet(api):
    message = api.leave_message("1812")
    assert api.operator.get(f"/v1/erasures/{message['call_id']}").status_code == 404
    erase(api, message_id=message["message_id"])
    found = certificate(api, message)
    assert found["message_ids"] == [message["message_id"]]
    assert (found["by"], found["reason"]) == ("operator", "a letter of 3 May")
    assert found["is_key_destroyed"]
    assert found["told"] == [
        {
            "server": "bravo",
            "has_answered": False,
            "kept_because": None,
            "mirror_has_taken_in": None,
        }
    ], "bravo does not run"
    assert json.loads(found["event"])["call_id"] == message["call_id"]
    keys = {"alpha": api.program.config.directory.own.public_key}
    assert check_entry(found["event"].encode(), found["proof"], "alpha", keys) == ()
    (problem,) = check_entry(b"{}", found["proof"], "alpha", keys)
    assert "is not this event" in problem


def test_certificate_says_who_keeps_a_key_and_why(api):
    message = api.leave_message("1814")
    erase(api, message_id=message["message_id"])
    recorder = api.program.stores.recorder
    stream = erasure_stream_id(UUID(message["call_id"]))
    told = [decode(entry.plain) for entry in recorder.read_streams([stream])[stream]]
    stamp = Stamp(at=told[0].recorded_at, by="alpha")
    answer = answer_to_record(
        told, "bravo", stamp, reason="still-needed", detail="another message is here"
    )
    assert answer is not None
    recorder.group.append(Append([to_stored_event(answer)]))
    (bravo,) = certificate(api, message)["told"]
    assert bravo["kept_because"] == "still-needed: another message is here"
    assert certificate(api, message)["is_key_destroyed"], "here it is"


def test_certificate_says_that_who_called_was_never_sealed(api):
    number, recorder = "+4940666", api.program.stores.recorder
    call_id = some_id()
    where = {
        "originator_id": call_id,
        "recorded_at": datetime.now(UTC),
        "recorded_by": "alpha",
    }
    before_there_were_keys = [
        CallReceived(
            **where,
            originator_version=1,
            called_extension="1845",
            context="default",
            status=CallStatus.ANSWERED,
            personal=Caller(number=number),
        ),
        CallAbandoned(**where, originator_version=2, reason="hung-up"),
    ]
    recorder.group.append(Append([to_stored_event(event) for event in before_there_were_keys]))
    (erased,) = erase(api, caller=number)
    assert (erased["call_id"], erased["outcome"]) == (str(call_id), "not-sealed")
    assert call(api, str(call_id))["caller_number"] == number, "for ever"
    assert not certificate(api, erased)["is_sealed"]
    sealed = api.leave_message("1845")
    erase(api, message_id=sealed["message_id"])
    assert certificate(api, sealed)["is_sealed"]


def test_erasing_twice_changes_nothing(api):
    message = api.leave_message("1813")
    erase(api, message_id=message["message_id"])
    stream = erasure_stream_id(UUID(message["call_id"]))
    recorder = api.program.stores.recorder
    before = recorder.read_streams([stream])[stream]
    assert outcomes(erase(api, message_id=message["message_id"])) == {
        message["message_id"]: "erased"
    }
    assert before
    assert recorder.read_streams([stream])[stream] == before


def test_message_erased_by_a_commit_of_which_a_copied_log_has_the_half_is_erased_when_asked(api):
    """A copy may end within a commit: a message is erased, and its call's key still here."""
    message = api.leave_message("1815")
    message_id, call_id = UUID(message["message_id"]), UUID(message["call_id"])
    stores = api.program.stores
    half = MessageErased(
        originator_id=message_stream_id(message_id, "alpha"),
        originator_version=2,
        recorded_at=datetime.now(UTC),
        recorded_by="alpha",
        message_id=message_id,
        by="operator",
        reason="a letter of 3 May",
    )
    stores.recorder.group.append(Append([to_stored_event(half)]))
    assert call(api, message["call_id"])["caller_state"] == "known"
    assert outcomes(erase(api, message_id=message["message_id"])) == {
        message["message_id"]: "erased"
    }
    assert stores.vault.keys([call_id]) == {call_id: None}
    assert certificate(api, message)["is_key_destroyed"]
    end = stores.recorder.head().position
    erase(api, message_id=message["message_id"])
    assert stores.recorder.head().position == end, "nothing is left to be done"


def test_message_that_waits_for_its_home_is_erased_where_it_is(api):
    message = api.leave_message("2810")
    assert message["is_pending"]
    assert outcomes(erase(api, message_id=message["message_id"])) == {
        message["message_id"]: "erased"
    }
    assert api.operator.get("/v1/mailboxes/2810").json()["messages"] == []


def test_mailbox_is_erased_with_all_its_messages_after_a_dry_run(api):
    messages = [api.leave_message("1820") for _ in range(3)]
    other = api.leave_message("1821")
    ids = {one["message_id"] for one in messages}
    dry = erase(api, mailbox="1820", dry_run=True)
    assert outcomes(dry) == dict.fromkeys(ids, "would-be-erased")
    assert all(sound(api, one) == 200 for one in messages)
    assert outcomes(erase(api, mailbox="1820")) == dict.fromkeys(ids, "erased")
    assert all(sound(api, one) == 404 for one in messages)
    assert sound(api, other) == 200
    assert erase(api, mailbox="1820") == []


def test_caller_is_erased_from_every_call(api):
    number = "+4940777"
    decided = api.report("1830", caller_number=number).json()
    upload = api.switch.put(
        f"/v1/calls/{decided['call_id']}/recording",
        content=wav(),
        headers={"Content-Type": "audio/wav"},
    )
    message = upload.json()
    answered = api.report("1830", caller_number=number, status="answered").json()
    running = api.report("1830", caller_number=number).json()
    other = api.leave_message("1830")
    found = {one["call_id"]: one["outcome"] for one in erase(api, caller=number)}
    assert found == {
        message["call_id"]: "erased",
        answered["call_id"]: "erased",
        running["call_id"]: "not-now",
    }
    assert call(api, answered["call_id"])["caller_state"] == "erased"
    assert sound(api, other) == 200
    late = api.switch.put(
        f"/v1/calls/{running['call_id']}/recording",
        content=wav(),
        headers={"Content-Type": "audio/wav"},
    )
    assert late.status_code == 201, "a call that is not over still takes its message"


def test_legal_hold_stops_an_erasure(api):
    message = api.leave_message("1840")
    api.operator.post("/v1/mailboxes/1840/hold", json={"reason": "case 7"})
    try:
        assert outcomes(erase(api, message_id=message["message_id"])) == {
            message["message_id"]: "held"
        }
        assert sound(api, message) == 200
    finally:
        api.operator.delete("/v1/mailboxes/1840/hold", params={"reason": "over"})
    assert outcomes(erase(api, mailbox="1840")) == {message["message_id"]: "erased"}


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"message_id": str(some_id())}, 404),
        ({}, 400),
        ({"mailbox": "1001", "caller": "+1"}, 400),
        ({"mailbox": "a@b@c"}, 400),
        ({"message_id": "no"}, 400),
    ],
)
def test_request_that_names_nothing_is_a_clear_error(api, asked, status):
    answer = api.operator.post("/v1/erasures", json={"reason": "r"} | asked)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


def test_only_operators_erase(api):
    user = api.client(Scope.OWNER, mailboxes=("1001",))
    answer = user.post("/v1/erasures", json={"reason": "r", "mailbox": "1001"})
    assert answer.status_code == 403
