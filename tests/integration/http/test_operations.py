"""What operators and probes see through the HTTP API."""

import hashlib
import json

from prometheus_client.parser import text_string_to_metric_families

from tests.support.api import some_id
from vmledger.access import Scope


def test_what_waits_is_summed_up_for_each_home(api):
    message = api.leave_message("2201")
    view = api.operator.get("/v1/pending").json()
    (home,) = view["homes"]
    assert home["home"] == "bravo"
    assert home["count"] == view["count"] >= 1
    assert home["size_bytes"] > 0
    assert message["message_id"] in [m["message_id"] for m in view["messages"]]


def test_the_servers_of_the_configuration_are_listed_with_this_one_marked(api):
    servers = api.operator.get("/v1/servers").json()["servers"]
    assert {s["id"]: s["is_self"] for s in servers} == {"alpha": True, "bravo": False}


def test_the_log_shows_every_event_byte_for_byte(api):
    api.leave_message("1301")
    head = api.operator.get("/v1/log/checkpoint").json()
    entries, start = [], 1
    while start is not None:
        page = api.operator.get("/v1/log", params={"from": start, "limit": 7}).json()
        entries += page["entries"]
        start = page["next"]
    assert [entry["position"] for entry in entries][: head["position"]] == list(
        range(1, head["position"] + 1)
    )
    assert {"call-received", "message-stored", "message-delivered"} <= {e["topic"] for e in entries}
    assert all(entry["event"]["event"] == entry["topic"] for entry in entries)


def test_the_checkpoint_names_the_head_of_the_log(api):
    head = api.operator.get("/v1/log/checkpoint").json()
    assert head["server"] == "alpha"
    assert len(bytes.fromhex(head["root"])) == hashlib.sha256().digest_size


def test_a_verified_backup_is_recorded(api):
    api.leave_message("1302")
    position = api.operator.get("/v1/log/checkpoint").json()["position"]
    backup = {"position": position, "place": "tape 7"}
    assert api.operator.post("/v1/log/backups", json=backup).status_code == 201
    entries = api.operator.get("/v1/log", params={"from": position + 1}).json()["entries"]
    assert ("backup-verified", "tape 7") in [(e["topic"], e["event"].get("place")) for e in entries]


def test_a_backup_of_what_is_not_in_the_log_is_refused(api):
    backup = {"position": 10**9, "place": "tape 7"}
    assert api.operator.post("/v1/log/backups", json=backup).status_code == 400


def test_a_message_that_does_not_wait_cannot_be_requeued(api):
    assert api.operator.post(f"/v1/messages/{some_id()}/requeue").status_code == 404


def test_a_message_that_waits_can_be_requeued(api):
    message = api.leave_message("2202")
    answer = api.operator.post(f"/v1/messages/{message['message_id']}/requeue")
    assert (answer.status_code, answer.json()["call_id"]) == (202, message["call_id"])


def test_a_probe_of_life_needs_no_token(api):
    nobody = api.client()
    assert nobody.get("/healthz").json() == {"status": "ok", "server": "alpha", "checks": {}}


def test_readiness_says_what_it_rests_on(api):
    ready = api.client(Scope.SWITCH).get("/readyz")
    assert (ready.status_code, ready.json()["checks"]) == (200, {"log": "ok", "disk": "ok"})


def test_the_metrics_tell_what_waits_and_how_far_the_log_is(api):
    api.leave_message("2203")
    text = api.operator.get("/metrics").text
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["vmledger_pending_messages", ("bravo",)] >= 1
    assert samples["vmledger_log_position", ()] > 0
    assert samples["vmledger_disk_free_bytes", ()] > 0
    assert samples["vmledger_messages_stored_total", ("pending",)] >= 1
    assert ("vmledger_projection_lag_events", ("mailboxes",)) in samples


def test_the_read_models_say_how_far_they_are(api):
    names = {p["name"] for p in api.operator.get("/v1/projections").json()}
    assert {"mailboxes", "pending", "calls", "servers"} <= names


def test_the_description_of_the_api_is_served_to_every_token(api):
    description = json.loads(api.client(Scope.SWITCH).get("/openapi.json").content)
    assert description["openapi"].startswith("3.1")
    assert "/v1/calls" in description["paths"]
