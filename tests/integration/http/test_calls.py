"""Calls through the HTTP API: reported, recorded, given up, listed."""

import hashlib
import http.client
from urllib.parse import urlsplit

import pytest

from tests.support.api import make_configuration, running_api, some_id, wav
from tests.support.processes import wait_for


def test_a_call_for_voicemail_is_told_where_to_put_its_recording(api):
    answer = api.report("1001")
    decision = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/calls/{decision['call_id']}/recording"
    assert (decision["transfer"], decision["reason"]) == (True, "no-answer")
    assert (decision["extension"], decision["mailbox"]) == ("1001", "1001@default")
    assert (decision["home"], decision["is_remote"], decision["is_reachable"]) == (
        "alpha",
        False,
        None,
    )


def test_an_answered_call_is_handled_normally(api):
    answer = api.report("1001", status="answered")
    assert answer.status_code == 201
    assert answer.json()["transfer"] is False
    assert "Location" not in answer.headers


@pytest.fixture(scope="module")
def with_a_prefix(tmp_path_factory):
    """A server that is home to whatever no other is home to."""
    extensions = {"alpha": ["*"], "bravo": ["2000-2999"]}
    with running_api(make_configuration(tmp_path_factory.mktemp("prefix"), extensions)) as running:
        yield running


@pytest.mark.parametrize("extension", ["", "1001@sip.example.org", " 1001", "1" * 101])
def test_a_prefix_claims_nothing_that_no_mailbox_can_be_called(with_a_prefix, extension):
    call_id = str(some_id())
    for _ in range(2):
        answer = with_a_prefix.report(extension, call_id=call_id)
        assert answer.status_code == 201
        assert (answer.json()["transfer"], answer.json()["reason"]) == (False, "no-mailbox")


@pytest.mark.parametrize("extension", ["*98", "ann", "1" * 100])
def test_a_prefix_claims_whatever_can_be_called(with_a_prefix, extension):
    with_a_prefix.leave_message(extension)
    mailbox = with_a_prefix.operator.get(f"/v1/mailboxes/{extension}").json()
    assert len(mailbox["messages"]) == 1


def test_a_repeated_report_gets_the_first_answer_again(api):
    call_id = str(some_id())
    first = api.report("1001", call_id=call_id).json()
    second = api.report("1001", call_id=call_id, status="answered").json()
    assert first == second
    assert first["call_id"] == call_id


def test_a_call_has_one_key_from_its_first_report_on(api):
    call_id = some_id()
    keys = []
    for _ in range(2):
        api.report("1001", call_id=str(call_id))
        keys.append(api.program.stores.vault.key(call_id))
    assert keys[0] == keys[1]
    assert len(keys[0].secret) == 32


def test_a_recording_is_durable_when_it_is_answered_201(api):
    audio = wav(3000)
    message = api.leave_message("1002", audio)
    assert message["digest"] == hashlib.sha256(audio).hexdigest()
    assert message["duration_ms"] == 3000
    assert (message["custody"], message["is_pending"]) == ("alpha", False)


def test_the_same_recording_again_is_answered_200_and_changes_nothing(api):
    call_id = api.report("1003").json()["call_id"]
    path, headers = f"/v1/calls/{call_id}/recording", {"Content-Type": "audio/wav"}
    first = api.switch.put(path, content=wav(), headers=headers)
    again = api.switch.put(path, content=wav(), headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert len(api.operator.get("/v1/mailboxes/1003").json()["messages"]) == 1


def test_another_recording_for_the_same_call_is_a_conflict(api):
    call_id = api.report("1004").json()["call_id"]
    path, headers = f"/v1/calls/{call_id}/recording", {"Content-Type": "audio/wav"}
    assert api.switch.put(path, content=wav(), headers=headers).status_code == 201
    other = api.switch.put(path, content=wav(1500), headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_a_recording_for_an_unknown_call_is_not_found(api):
    answer = api.switch.put(f"/v1/calls/{some_id()}/recording", content=wav())
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_a_recording_for_a_call_that_is_handled_normally_is_a_conflict(api):
    call_id = api.report("1001", status="answered").json()["call_id"]
    answer = api.switch.put(f"/v1/calls/{call_id}/recording", content=wav())
    assert answer.status_code == 409


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(b"", "audio/wav"), (b"this is no sound" * 100, "audio/wav"), (wav()[:-100], "audio/wav")],
)
def test_audio_that_cannot_be_a_message_is_refused_and_kept(api, content, content_type):
    call_id = api.report("1005").json()["call_id"]
    answer = api.switch.put(
        f"/v1/calls/{call_id}/recording", content=content, headers={"Content-Type": content_type}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "audio-refused")
    (call,) = [
        call
        for call in api.operator.get("/v1/calls?extension=1005").json()["calls"]
        if call["call_id"] == call_id
    ]
    assert call["outcome"] == "set-aside"


def test_a_message_for_a_home_that_is_down_waits_here(api):
    decision = api.report("2001").json()
    assert (decision["home"], decision["is_remote"], decision["is_reachable"]) == (
        "bravo",
        True,
        False,
    )
    message = api.leave_message("2001")
    assert (message["custody"], message["is_pending"]) == ("alpha", True)


def test_an_upload_that_breaks_off_does_not_harm_the_server_and_can_be_repeated(api):
    call_id = api.report("1006").json()["call_id"]
    host = urlsplit(api.url)
    connection = http.client.HTTPConnection(host.hostname, host.port)
    connection.putrequest("PUT", f"/v1/calls/{call_id}/recording")
    connection.putheader("Authorization", api.switch.headers["Authorization"])
    connection.putheader("Content-Type", "audio/wav")
    connection.putheader("Content-Length", str(len(wav())))
    connection.endheaders(wav()[:5000])
    connection.close()
    statuses = []

    def is_taken():
        headers = {"Content-Type": "audio/wav"}
        answer = api.switch.put(f"/v1/calls/{call_id}/recording", content=wav(), headers=headers)
        statuses.append(answer.status_code)
        return answer.status_code != 503

    assert wait_for(is_taken, 20)
    assert statuses[-1] == 201


def test_a_call_that_ended_without_a_message_is_recorded_as_abandoned(api):
    call_id = api.report("1007").json()["call_id"]
    for _ in range(2):
        assert api.switch.delete(f"/v1/calls/{call_id}?reason=too-short").status_code == 204
    (call,) = api.operator.get("/v1/calls?extension=1007").json()["calls"]
    assert (call["outcome"], call["ended_reason"]) == ("abandoned", "too-short")


def test_a_call_with_a_message_cannot_be_abandoned(api):
    message = api.leave_message("1008")
    assert api.switch.delete(f"/v1/calls/{message['call_id']}").status_code == 409


def test_calls_are_listed_page_by_page_the_newest_first(api):
    ids = [api.report("1009").json()["call_id"] for _ in range(5)]
    seen, before = [], {}
    while True:
        page = api.operator.get(
            "/v1/calls", params={"extension": "1009", "limit": 2} | before
        ).json()
        seen += [call["call_id"] for call in page["calls"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == ids[::-1]
