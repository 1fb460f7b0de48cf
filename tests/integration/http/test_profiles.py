"""A mailbox's own greetings and PIN through the HTTP API."""

import hashlib

import pytest

from ledger.events import GreetingRecorded, PinChanged, decode
from ledger.mailbox import mailbox_of
from tests.support.api import wav
from vmledger.access import Scope

SOUND = wav(3000)
WAV = {"Content-Type": "audio/wav"}
ORIGINAL = {"Accept": "audio/original"}


def greet(api, extension, kind="unavailable", sound=SOUND, client=None):
    path = f"/v1/mailboxes/{extension}/greetings/{kind}"
    return (client or api.operator).put(path, content=sound, headers=WAV)


def set_pin(api, extension, pin="2580"):
    answer = api.operator.put(f"/v1/mailboxes/{extension}/pin", json={"pin": pin})
    assert answer.status_code == 204, answer.text


def check(api, extension, pin):
    return api.switch.post(f"/v1/mailboxes/{extension}/pin/check", json={"pin": pin})


def profile(api, extension):
    return api.operator.get(f"/v1/mailboxes/{extension}/profile").json()


def plain_log(api) -> list[bytes]:
    return [entry.plain for entry in api.program.stores.recorder.read(1, 10_000)]


def told_of(api, extension) -> list:
    """Give the events of this mailbox's own streams."""
    events = map(decode, plain_log(api))
    return [event for event in events if mailbox_of(event) == f"{extension}@default"]


def test_mailbox_that_nobody_touched_has_no_greeting_and_no_pin(api):
    shown = profile(api, "1700")
    assert shown.pop("as_of") >= 0
    assert shown == {
        "mailbox": "1700@default",
        "home": "alpha",
        "epoch": 1,
        "greetings": [],
        "has_pin": False,
        "pin_changed_at": None,
    }


def test_recorded_greeting_is_played_bit_for_bit_and_shown(api):
    answer = greet(api, "1701")
    assert answer.status_code == 200, answer.text
    (shown,) = profile(api, "1701")["greetings"]
    assert shown == answer.json()
    assert shown["digest"] == hashlib.sha256(SOUND).hexdigest()
    assert (shown["kind"], shown["duration_ms"]) == ("unavailable", 3000)
    played = api.switch.get("/v1/mailboxes/1701/greetings/unavailable", headers=ORIGINAL)
    assert played.content == SOUND


def test_greeting_is_played_as_the_player_wants_it_and_in_ranges(api):
    greet(api, "1702")
    path = "/v1/mailboxes/1702/greetings/unavailable"
    assert api.switch.get(path, headers={"Accept": "audio/ogg"}).content.startswith(b"OggS")
    part = api.switch.get(path, headers=ORIGINAL | {"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, SOUND[4:8])


def test_each_kind_is_a_greeting_of_its_own(api):
    other = wav(1000)
    greet(api, "1703", "busy")
    greet(api, "1703", "name", other)
    assert [g["kind"] for g in profile(api, "1703")["greetings"]] == ["busy", "name"]
    played = api.switch.get("/v1/mailboxes/1703/greetings/name", headers=ORIGINAL)
    assert played.content == other


def test_same_greeting_again_changes_nothing(api):
    assert greet(api, "1704").json() == greet(api, "1704").json()
    assert len(told_of(api, "1704")) == 1


def test_removed_greeting_is_gone_and_removing_it_again_is_fine(api):
    greet(api, "1705")
    path = "/v1/mailboxes/1705/greetings/unavailable"
    assert [api.operator.delete(path).status_code for _ in range(2)] == [204, 204]
    assert api.switch.get(path).status_code == 404
    assert profile(api, "1705")["greetings"] == []


@pytest.mark.parametrize(
    ("sound", "status", "code"),
    [
        (b"", 422, "audio-refused"),
        (b"RIFF....WAVEnonsense", 422, "audio-refused"),
        (wav(181_000), 422, "audio-refused"),
        (b"\0" * (16 * 1024 * 1024 + 1), 413, "recording-too-large"),
    ],
    ids=["empty", "broken", "too long", "too large"],
)
def test_what_is_no_greeting_is_refused_and_leaves_nothing(api, sound, status, code):
    answer = greet(api, "1706", sound=sound)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert told_of(api, "1706") == []


def test_unknown_kind_of_greeting_is_named_as_such(api):
    answer = greet(api, "1707", "birthday")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "kind"


@pytest.mark.parametrize(
    ("method", "path", "how"),
    [
        ("PUT", "greetings/busy", {"content": SOUND, "headers": WAV}),
        ("DELETE", "greetings/busy", {}),
        ("PUT", "pin", {"json": {"pin": "2580"}}),
        ("DELETE", "pin", {}),
    ],
)
def test_only_the_home_changes_a_profile_and_others_name_it(api, method, path, how):
    answer = api.operator.request(method, f"/v1/mailboxes/2001/{path}", **how)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "not-home")
    assert problem["custodian"] == "bravo"


def test_mailbox_that_no_server_is_home_to_has_no_profile_to_change(api):
    assert greet(api, "9001").status_code == 404
    assert profile(api, "9001")["home"] is None


def test_pin_matches_and_no_other_does(api):
    set_pin(api, "1710")
    assert check(api, "1710", "2580").json() == {"matches": True}
    assert check(api, "1710", "2581").json() == {"matches": False}
    shown = profile(api, "1710")
    assert shown["has_pin"]
    assert shown["pin_changed_at"] is not None


def test_changed_pin_takes_the_place_of_the_old_one(api):
    set_pin(api, "1711", "2580")
    set_pin(api, "1711", "1470")
    assert check(api, "1711", "2580").json() == {"matches": False}
    assert check(api, "1711", "1470").json() == {"matches": True}


def test_removed_pin_lets_nobody_in(api):
    set_pin(api, "1712")
    path = "/v1/mailboxes/1712/pin"
    assert [api.operator.delete(path).status_code for _ in range(2)] == [204, 204]
    assert check(api, "1712", "2580").status_code == 404
    assert not profile(api, "1712")["has_pin"]


@pytest.mark.parametrize("pin", ["1713", "4444", "3456", "25", "25x0"])
def test_unfit_pin_is_refused_and_not_repeated(api, pin):
    answer = api.operator.put("/v1/mailboxes/1713/pin", json={"pin": pin})
    assert (answer.status_code, answer.json()["code"]) == (400, "unfit-pin")
    assert pin not in answer.json()["detail"]
    assert not profile(api, "1713")["has_pin"]


def test_wrong_pins_lock_the_mailbox_also_for_the_right_one(api):
    set_pin(api, "1714")
    assert [check(api, "1714", "0000").status_code for _ in range(3)] == [200, 200, 200]
    locked = check(api, "1714", "2580")
    assert (locked.status_code, locked.json()["code"]) == (429, "pin-locked")
    assert 1 <= int(locked.headers["Retry-After"]) <= 5
    set_pin(api, "1714", "1470")
    assert check(api, "1714", "1470").json() == {"matches": True}


def test_neither_the_pin_nor_what_it_is_checked_against_is_in_the_log(api):
    set_pin(api, "1715", "8302946175")
    (event,) = told_of(api, "1715")
    assert event.verifier is not None
    assert not any(b"8302946175" in plain or b"scrypt" in plain for plain in plain_log(api))


def test_events_name_who_changed_what(api):
    set_pin(api, "1716")
    greet(api, "1716")
    events = told_of(api, "1716")
    assert [type(e) for e in events] == [PinChanged, GreetingRecorded]
    assert events[0].by == "operator"
    assert {e.originator_id for e in events} == {events[0].originator_id}
    assert [e.originator_version for e in events] == [1, 2]


def test_owner_uses_their_own_mailbox_and_no_other(api):
    owner = api.client(Scope.OWNER, mailboxes=("1717",))
    assert greet(api, "1717", client=owner).status_code == 200
    assert greet(api, "1718", client=owner).status_code == 403
    assert owner.put("/v1/mailboxes/1717/pin", json={"pin": "2580"}).status_code == 204
    assert owner.put("/v1/mailboxes/1718/pin", json={"pin": "2580"}).status_code == 403


def test_switch_plays_and_checks_and_changes_nothing(api):
    greet(api, "1719")
    assert api.switch.get("/v1/mailboxes/1719/greetings/unavailable").status_code == 200
    assert greet(api, "1719", client=api.switch).status_code == 403
    assert api.switch.delete("/v1/mailboxes/1719/greetings/unavailable").status_code == 403
    assert api.switch.put("/v1/mailboxes/1719/pin", json={"pin": "2580"}).status_code == 403


def test_reader_sees_the_profile_and_hears_nothing(api):
    reader = api.client(Scope.READER)
    greet(api, "1720")
    assert reader.get("/v1/mailboxes/1720/profile").status_code == 200
    assert reader.get("/v1/mailboxes/1720/greetings/unavailable").status_code == 403
    answer = reader.post("/v1/mailboxes/1720/pin/check", json={"pin": "2580"})
    assert answer.status_code == 403
