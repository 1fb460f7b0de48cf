"""Mailboxes through the HTTP API: what is in them, now and then, and what users do."""

from uuid import UUID

import pytest

from ledger.storage.event_log import Append
from tests.support.api import some_id, wav
from vmledger.access import Scope


def test_a_mailbox_that_nobody_left_a_message_in_is_empty(api):
    page = api.operator.get("/v1/mailboxes/1100").json()
    assert (page["messages"], page["next"], page["home"]) == ([], None, "alpha")
    assert page["counts"] == {"new": 0, "heard": 0, "saved": 0, "deleted": 0, "pending": 0}


def test_a_message_shows_in_its_mailbox_at_once(api):
    stored = api.leave_message("1101")
    page = api.operator.get("/v1/mailboxes/1101").json()
    (message,) = page["messages"]
    assert message["message_id"] == stored["message_id"]
    assert (message["status"], message["caller_number"]) == ("new", "+4930123")
    assert message["caller_state"] == "known"
    assert message["custody"] == "alpha"
    assert page["counts"]["new"] == 1


def test_a_caller_whose_key_is_destroyed_is_erased_everywhere_and_at_any_past_moment(api):
    kept, erased = api.leave_message("1190"), api.leave_message("1190")
    recorder = api.program.stores.recorder
    then = recorder.head().position
    (destroyed,) = recorder.commit(
        [Append([], keys=api.program.stores.vault.destroy([UUID(erased["call_id"])]))]
    )
    assert not isinstance(destroyed, Exception)
    expected = {
        kept["call_id"]: ("known", "+4930123"),
        erased["call_id"]: ("erased", None),
    }
    for path, name in (
        ("/v1/mailboxes/1190", "messages"),
        (f"/v1/mailboxes/1190?position={then}", "messages"),
        ("/v1/calls?extension=1190", "calls"),
    ):
        shown = api.operator.get(path).json()[name]
        assert {s["call_id"]: (s["caller_state"], s["caller_number"]) for s in shown} == expected
    story = api.operator.get(f"/v1/messages/{erased['message_id']}/story").json()
    assert "somebody who was erased" in story["steps"][0]["text"]


def test_no_event_of_the_log_names_who_called(api):
    api.leave_message("1191")
    log = api.operator.get("/v1/log").text
    assert "call-received" in log
    assert "4930123" not in log


def test_a_message_that_waits_here_shows_in_its_mailbox_as_pending(api):
    api.leave_message("2101")
    page = api.operator.get("/v1/mailboxes/2101").json()
    assert page["home"] == "bravo"
    assert page["messages"][0]["is_pending"] is True
    assert page["counts"]["pending"] == 1


def test_pages_hold_every_message_once_the_newest_first(api):
    ids = [api.leave_message("1102", wav(1000 + n))["message_id"] for n in range(5)]
    seen, before = [], {}
    while True:
        page = api.operator.get("/v1/mailboxes/1102", params={"limit": 2} | before).json()
        seen += [message["message_id"] for message in page["messages"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == ids[::-1]


@pytest.mark.parametrize("status", ["heard", "saved", "deleted"])
def test_what_a_user_does_shows_in_the_answer_and_in_the_next_one(api, status):
    message = api.leave_message("1103")
    answer = api.operator.patch(api.message_path(message), json={"status": status})
    assert (answer.status_code, answer.json()["status"]) == (200, status)
    assert api.operator.get(api.message_path(message)).json()["status"] == status


def test_a_deleted_message_comes_back_as_it_was(api):
    message = api.leave_message("1104")
    path = api.message_path(message)
    api.operator.patch(path, json={"status": "saved"})
    assert api.operator.delete(path).status_code == 204
    assert api.operator.get(path).json()["status"] == "deleted"
    assert api.operator.patch(path, json={"status": "restored"}).json()["status"] == "saved"


def test_deleting_twice_is_no_error(api):
    path = api.message_path(api.leave_message("1105"))
    assert [api.operator.delete(path).status_code for _ in range(2)] == [204, 204]


def test_a_deleted_message_cannot_be_saved(api):
    path = api.message_path(api.leave_message("1106"))
    api.operator.delete(path)
    answer = api.operator.patch(path, json={"status": "saved"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_who_listened_is_recorded_by_the_name_of_their_token(api):
    message = api.leave_message("1107")
    owner = api.client(Scope.OWNER, mailboxes=("1107",))
    assert owner.patch(api.message_path(message), json={"status": "heard"}).json()["heard_by"] == (
        "owner"
    )


def test_a_message_of_another_mailbox_is_not_found(api):
    message = api.leave_message("1108")
    answer = api.operator.get(f"/v1/mailboxes/1109/messages/{message['message_id']}")
    assert answer.status_code == 404


def test_an_unknown_message_of_a_mailbox_that_lives_elsewhere_names_its_home(api):
    answer = api.operator.get(f"/v1/mailboxes/2108/messages/{some_id()}")
    assert answer.status_code == 404
    assert "bravo" in answer.json()["detail"]


def test_a_message_is_found_by_its_id_alone(api):
    message = api.leave_message("1110")
    found = api.operator.get(f"/v1/messages/{message['message_id']}").json()
    assert found["mailbox"] == "1110@default"
    assert api.operator.get(f"/v1/messages/{some_id()}").status_code == 404


def test_a_mailbox_is_shown_as_it_was_at_a_position(api):
    first = api.leave_message("1111")
    position = api.operator.get("/v1/log/checkpoint").json()["position"]
    api.leave_message("1111", wav(1500))
    api.operator.delete(api.message_path(first))
    then = api.operator.get(f"/v1/mailboxes/1111?position={position}").json()
    assert [(m["message_id"], m["status"]) for m in then["messages"]] == [
        (first["message_id"], "new")
    ]
    assert then["as_of"] == position


def test_a_mailbox_is_shown_as_it_was_at_a_time(api):
    first = api.leave_message("1112")
    second = api.leave_message("1112", wav(1500))
    then = api.operator.get("/v1/mailboxes/1112", params={"at": first["stored_at"]}).json()
    now = api.operator.get("/v1/mailboxes/1112", params={"at": second["stored_at"]}).json()
    assert (len(then["messages"]), len(now["messages"])) == (1, 2)


@pytest.mark.parametrize(
    "query",
    [
        {"at": "2026-01-01T00:00:00"},
        {"at": "2026-01-01T00:00:00Z", "position": 3},
        {"at": "yesterday"},
        {"position": -1},
        {"position": "9" * 30},
        {"limit": 0},
        {"limit": 1001},
        {"before": "nonsense"},
        {"before": "999999999999999999." + "0" * 32},
    ],
)
def test_a_question_that_makes_no_sense_is_a_bad_request(api, query):
    answer = api.operator.get("/v1/mailboxes/1100", params=query)
    assert answer.status_code == 400
    assert answer.json()["detail"]
