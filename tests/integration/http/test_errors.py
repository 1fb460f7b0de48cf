"""Every error of the API is a problem detail that says what to do."""

import logging
import socket

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api import some_id
from tests.support.processes import wait_for

CALL = {"called_extension": "1001", "status": "busy"}


def problem(answer: httpx.Response) -> dict:
    assert answer.headers["Content-Type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == answer.status_code
    assert found["detail"]
    assert found["remedy"]
    assert found["request_id"] == answer.headers["X-Request-Id"]
    assert found["instance"] == answer.request.url.path
    return found


def test_an_unknown_path_is_a_problem(api):
    assert problem(api.operator.get("/v1/nothing"))["code"] == "not-found"


def test_an_unknown_method_names_those_that_there_are(api):
    answer = api.operator.put("/v1/calls")
    assert problem(answer)["code"] == "method-not-allowed"
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "busy"}, "called_extension"),
        (CALL | {"status": "asleep"}, "status"),
        (CALL | {"caller_numer": "1"}, "caller_numer"),
        (CALL | {"call_id": "1"}, "call_id"),
        (CALL | {"called_extension": 1}, "called_extension"),
    ],
)
def test_a_field_that_is_not_valid_is_named(api, body, field):
    found = problem(api.switch.post("/v1/calls", json=body))
    assert found["code"] == "invalid-fields"
    assert [error["field"] for error in found["errors"]] == [field]


def test_a_query_parameter_that_is_not_valid_is_named_as_the_caller_wrote_it(api):
    found = problem(api.operator.get("/v1/log?from=0"))
    assert [(e["field"], e["source"]) for e in found["errors"]] == [("from", "query")]


NO_OBJECTS = [b"", b"{", b"[]", b"\xff\xfe", b'{"\xff": 1}', b"[" * 10_000, b"null"]


@pytest.mark.parametrize("body", NO_OBJECTS)
def test_a_body_that_is_no_json_object_is_a_bad_request(api, body):
    answer = api.switch.post(
        "/v1/calls", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    problem(answer)


def test_a_body_that_is_not_json_is_refused_by_its_type(api):
    answer = api.switch.post("/v1/calls", content=b"x", headers={"Content-Type": "text/plain"})
    assert problem(answer)["code"] == "unsupported-media-type"
    assert answer.status_code == 415


def test_a_body_larger_than_any_report_is_refused(api):
    answer = api.switch.post("/v1/calls", json=CALL | {"caller_name": "x" * 100_000})
    assert problem(answer)["code"] == "too-large"
    assert answer.status_code == 413


@pytest.mark.parametrize("header", [None, "", "Basic eDp5", "Bearer", "Bearer vml_0_0", "Bearer é"])
def test_without_a_valid_token_the_answer_says_how_to_present_one(api, header):
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    answer = api.client().get("/v1/calls", headers=headers)
    assert problem(answer)["code"] == "unauthenticated"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")


def test_the_callers_own_request_id_comes_back(api):
    answer = api.operator.get("/v1/nothing", headers={"X-Request-Id": "pbx-17"})
    assert problem(answer)["request_id"] == "pbx-17"


def test_a_request_id_that_could_forge_a_log_line_is_replaced(api):
    answer = api.operator.get("/v1/nothing", headers={"X-Request-Id": "a action=fake"})
    assert problem(answer)["request_id"] != "a action=fake"


def test_a_client_that_hangs_up_inside_its_body_is_no_bug_of_ours(api, caplog):
    caplog.set_level(logging.INFO)
    host, _, port = api.url.removeprefix("http://").partition(":")
    head = (
        "POST /v1/calls HTTP/1.1\r\nHost: alpha\r\nContent-Type: application/json\r\n"
        f"Authorization: {api.switch.headers['Authorization']}\r\nContent-Length: 100\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as broken:
        broken.sendall(head.encode() + b'{"called_extension": ')

    def answered() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        return [line for line in lines if "action=http-request" in line and "POST" in line]

    assert wait_for(lambda: bool(answered()), 10)
    assert "status=400" in answered()[0]
    assert not any("action=request-failed" in record.getMessage() for record in caplog.records)


PATHS = [
    "/v1/calls",
    "/v1/mailboxes/1001",
    "/v1/pending",
    "/v1/log",
    f"/v1/mailboxes/1001/messages/{some_id()}/peaks",
]
NAMES = ["extension", "before", "limit", "at", "position", "context", "from", "buckets", "mark"]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from(PATHS),
    query=st.dictionaries(
        st.sampled_from(NAMES), st.one_of(st.integers().map(str), st.text(max_size=30)), max_size=4
    ),
)
def test_no_query_breaks_the_server(api, path, query):
    answer = api.operator.get(path, params=query)
    assert answer.status_code in {200, 400, 404}
    if answer.status_code != 200:
        problem(answer)
