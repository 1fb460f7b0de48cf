"""The claims, one after the other, on real server processes with real recorded speech.

Three servers on loopback, each with stores of its own: alpha (2xxx), bravo (3xxx), charlie (4xxx).
Each test uses an extension of its own, so that they do not see each other's messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ledger.errors import ConflictError
from tests.support.processes import ServerProcess, Servers, free_ports, wait_for
from vmledger.cli.api_client import ApiClient
from vmledger.cluster import write_cluster

EXTENSIONS = {"alpha": ["2000-2999"], "bravo": ["3000-3999"], "charlie": ["4000-4999"]}
SPEECH = sorted(Path(str(files("vmledger") / "speech")).glob("*.wav"))
SETTLE_S = 30


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Three servers that know each other, running."""
    ports = free_ports(6)
    places = {name: (ports[2 * i], ports[2 * i + 1]) for i, name in enumerate(EXTENSIONS)}
    folder = tmp_path_factory.mktemp("claims")
    configs = write_cluster(folder, list(EXTENSIONS), EXTENSIONS, places)
    with Servers(configs) as servers:
        servers.start_all()
        yield servers


@pytest.fixture(autouse=True)
def everybody_up(cluster: Servers) -> None:
    """Whatever a test before killed runs again."""
    cluster.start_all()


def api(server: ServerProcess) -> ApiClient:
    token = (server.config.parent / "data" / "operator.token").read_text().strip()
    return ApiClient(server.url, token)


CALLER = {
    "caller_number": "+4930123456",
    "caller_name": "Ann Lee",
    "redirecting_number": "2999",
}


def report(server: ServerProcess, extension: str, status: str = "no-answer", **more: Any) -> Any:
    body = {
        "called_extension": extension,
        "status": status,
        "caller_number": CALLER["caller_number"],
    }
    return api(server).send("POST", "/v1/calls", body | more)


def leave_message(server: ServerProcess, extension: str, speech: Path = SPEECH[0]) -> Any:
    """Make a call for voicemail and hand over its recording; gives what the switch was told."""
    call = report(server, extension)
    assert call["transfer"], call
    return hand_over(server, call["call_id"], speech)


def hand_over(server: ServerProcess, call_id: str, speech: Path) -> Any:
    answer = api(server).request(
        "PUT", f"/v1/calls/{call_id}/recording", speech.read_bytes(), {"Content-Type": "audio/wav"}
    )
    assert answer.status == 201
    return answer.json()


def messages(server: ServerProcess, extension: str) -> list[Any]:
    return list(api(server).get(f"/v1/mailboxes/{extension}")["messages"])


def original(server: ServerProcess, extension: str, message_id: str) -> bytes:
    """Give the received bytes as the server has kept them."""
    path = f"/v1/mailboxes/{extension}/messages/{message_id}/audio"
    return api(server).request("GET", path, headers={"Accept": "audio/original"}).body


def events_of(server: ServerProcess, call_id: str) -> list[Any]:
    entries = api(server).get("/v1/log", limit=1000)["entries"]
    return [e["event"] for e in entries if e["event"]["originator_id"] == call_id]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_reachable(server: ServerProcess, extension: str) -> bool:
    return bool(report(server, extension)["is_reachable"])


def test_claim_1_call_arrives_at_a_first_server_and_is_recorded(cluster):
    call = report(cluster["alpha"], "2001", switch_call_id="trunk-7")
    received, decided = events_of(cluster["alpha"], call["call_id"])
    assert received["event"] == "call-received"
    assert received["recorded_by"] == "alpha"
    assert received["called_extension"] == "2001"
    assert decided["event"] == "transfer-decided"


@pytest.mark.parametrize(
    ("status", "reason", "is_for_voicemail"),
    [
        ("no-answer", "no-answer", True),
        ("busy", "called-party-busy", True),
        ("unconditional", "forwarded-always", True),
        ("unreachable", "phone-unreachable", True),
        ("answered", "call-answered", False),
        ("abandoned", "caller-hung-up", False),
    ],
)
def test_claim_1_call_status_decides_whether_the_call_goes_to_voicemail(
    cluster, status, reason, is_for_voicemail
):
    call = report(cluster["alpha"], "2002", status)
    assert call["transfer"] is is_for_voicemail
    assert call["reason"] == reason


def test_claim_2_call_that_is_not_for_voicemail_is_handled_normally(cluster):
    call = report(cluster["alpha"], "2003", "answered")
    assert not call["transfer"]
    with pytest.raises(ConflictError, match="handled normally"):
        hand_over(cluster["alpha"], call["call_id"], SPEECH[0])
    assert events_of(cluster["alpha"], call["call_id"])[1]["to_voicemail"] is False
    assert messages(cluster["alpha"], "2003") == []


def test_claim_9_call_transfer_names_extension_and_home_and_whether_it_is_remote(cluster):
    own, other = report(cluster["alpha"], "2004"), report(cluster["alpha"], "3004")
    assert (own["extension"], own["home"], own["is_remote"]) == ("2004", "alpha", False)
    assert (other["extension"], other["home"], other["is_remote"]) == ("3004", "bravo", True)


def test_claim_1_availability_of_the_home_is_judged_with_evidence(cluster):
    assert wait_for(lambda: is_reachable(cluster["alpha"], "3005"), SETTLE_S)
    cluster["bravo"].kill9()
    assert wait_for(lambda: not is_reachable(cluster["alpha"], "3005"), SETTLE_S)
    call = report(cluster["alpha"], "3005")
    evidence = events_of(cluster["alpha"], call["call_id"])[1]["evidence"]
    assert call["is_reachable"] is False
    assert evidence["peer"] == "bravo"
    assert evidence["consecutive_failures"] > 0


def test_claim_1_call_for_unreachable_home_is_stored_where_it_landed(cluster):
    cluster["bravo"].kill9()
    stored = leave_message(cluster["alpha"], "3006", SPEECH[1])
    assert stored["is_pending"]
    assert stored["custody"] == "alpha"
    (here,) = messages(cluster["alpha"], "3006")
    assert here["is_pending"]
    assert original(cluster["alpha"], "3006", stored["message_id"]) == SPEECH[1].read_bytes()


def test_claim_3_call_for_the_servers_own_extension_is_stored_and_delivered_here(cluster):
    stored = leave_message(cluster["alpha"], "2007")
    assert (stored["custody"], stored["is_pending"]) == ("alpha", False)
    (message,) = messages(cluster["alpha"], "2007")
    assert message["message_id"] == stored["message_id"]
    assert message["delivered_at"] is not None


def test_claim_4_message_for_reachable_home_is_sent_to_it(cluster):
    assert wait_for(lambda: is_reachable(cluster["alpha"], "3008"), SETTLE_S)
    stored = leave_message(cluster["alpha"], "3008")
    assert (stored["custody"], stored["is_pending"]) == ("bravo", False)
    (there,) = messages(cluster["bravo"], "3008")
    assert there["message_id"] == stored["message_id"]
    assert messages(cluster["alpha"], "3008") == []


def test_claim_5_stored_message_is_retrieved_and_sent_when_the_home_returns(cluster):
    cluster["bravo"].kill9()
    stored = [leave_message(cluster["alpha"], "3009", speech) for speech in SPEECH[:3]]
    cluster["bravo"].start()
    assert wait_for(lambda: len(messages(cluster["bravo"], "3009")) == 3, SETTLE_S)
    there = sorted(messages(cluster["bravo"], "3009"), key=lambda m: m["received_at"])
    assert [m["message_id"] for m in there] == [m["message_id"] for m in stored]
    sounds = [original(cluster["bravo"], "3009", m["message_id"]) for m in there]
    assert sounds == [speech.read_bytes() for speech in SPEECH[:3]]
    assert wait_for(lambda: messages(cluster["alpha"], "3009") == [], SETTLE_S)
    (migrated,) = [
        e
        for e in events_of(cluster["alpha"], stored[0]["call_id"])
        if e["event"] == "message-migrated"
    ]
    assert migrated["receipt"]["home"] == "bravo"


def test_claim_6_configuration_says_where_the_second_server_is(cluster):
    known = {s["id"]: s for s in api(cluster["alpha"]).get("/v1/servers")["servers"]}
    listen = cluster["bravo"].settings["listen"]["replication"]
    assert known["bravo"]["url"] == f"https://{listen}"


def test_claim_7_home_receives_and_stores_the_message_bit_for_bit(cluster):
    assert wait_for(lambda: is_reachable(cluster["charlie"], "3010"), SETTLE_S)
    stored = leave_message(cluster["charlie"], "3010", SPEECH[2])
    assert stored["custody"] == "bravo"
    cluster["charlie"].kill9()
    assert original(cluster["bravo"], "3010", stored["message_id"]) == SPEECH[2].read_bytes()


def test_claim_8_one_server_does_all_of_it_as_one_process(cluster):
    call = report(cluster["charlie"], "4011")
    hand_over(cluster["charlie"], call["call_id"], SPEECH[3])
    topics = [e["event"] for e in events_of(cluster["charlie"], call["call_id"])]
    assert topics == ["call-received", "transfer-decided", "message-stored"]
    (message,) = messages(cluster["charlie"], "4011")
    assert original(cluster["charlie"], "4011", message["message_id"]) == SPEECH[3].read_bytes()


def test_claim_10_stored_message_is_retrieved_bit_for_bit_after_a_kill(cluster):
    stored = leave_message(cluster["alpha"], "2012", SPEECH[4])
    cluster["alpha"].kill9()
    cluster["alpha"].start()
    assert original(cluster["alpha"], "2012", stored["message_id"]) == SPEECH[4].read_bytes()


def test_claim_11_audio_is_encoded_for_storage_and_decoded_for_playing(cluster, tmp_path):
    stored = leave_message(cluster["alpha"], "2013")
    path = f"/v1/mailboxes/2013/messages/{stored['message_id']}/audio"
    played = tmp_path / "played.mp3"
    played.write_bytes(
        api(cluster["alpha"]).request("GET", path, headers={"Accept": "audio/mpeg"}).body
    )
    spoken, spoken_rate = soundfile.read(SPEECH[0])
    heard, heard_rate = soundfile.read(played)
    assert heard_rate == spoken_rate == 8000
    assert abs(len(heard) - len(spoken)) < 8000 * 0.2
    loudness = np.sqrt(np.mean(heard**2)) / np.sqrt(np.mean(spoken**2))
    assert 0.8 < loudness < 1.25


def test_claim_12_what_the_switch_knows_of_the_call_reaches_the_record(cluster):
    call = report(
        cluster["alpha"],
        "2014",
        caller_name=CALLER["caller_name"],
        redirecting_number=CALLER["redirecting_number"],
        redirecting_reason="no-answer",
        switch_call_id="1234.56",
    )
    received = events_of(cluster["alpha"], call["call_id"])[0]
    shown = api(cluster["alpha"]).get("/v1/calls", extension="2014")["calls"][0]
    assert {name: shown[name] for name in ("caller_state", *CALLER)} == CALLER | {
        "caller_state": "known"
    }
    assert received["redirecting_reason"] == "no-answer"
    assert received["switch_call_id"] == "1234.56"


def test_claim_13_every_server_knows_the_others_from_its_configuration(cluster):
    for server in cluster.all:
        listed = api(server).get("/v1/servers")["servers"]
        assert {s["id"] for s in listed} == set(EXTENSIONS)


def test_claim_15_three_servers_with_extensions_on_each_keep_each_others_messages(cluster):
    assert wait_for(lambda: is_reachable(cluster["alpha"], "4016"), SETTLE_S)
    cluster["charlie"].kill9()
    pending = [
        leave_message(cluster[at], "4016", SPEECH[i]) for i, at in enumerate(["alpha", "bravo"])
    ]
    assert [p["custody"] for p in pending] == ["alpha", "bravo"]
    cluster["charlie"].start()
    assert wait_for(lambda: len(messages(cluster["charlie"], "4016")) == 2, SETTLE_S)
    ids = [m["message_id"] for m in messages(cluster["charlie"], "4016")]
    there = {message: original(cluster["charlie"], "4016", message) for message in ids}
    assert there == {p["message_id"]: SPEECH[i].read_bytes() for i, p in enumerate(pending)}
