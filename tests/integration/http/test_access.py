"""Every route of the API against every kind of token; a route without an expectation fails."""

import re

import pytest

from tests.support.api import some_id
from vmledger.access import AccessRule, Scope
from vmledger.http.application import HANDLERS

EVERYBODY = {"nobody", "switch", "reader", "operator", "owner", "other-owner"}
WHO = {
    "open": EVERYBODY,
    "any-token": EVERYBODY - {"nobody"},
    "take-calls": {"switch", "operator"},
    "read": {"reader", "operator"},
    "read-mailbox": {"reader", "operator", "owner"},
    "use-mailbox": {"operator", "owner"},
    "serve-callers": {"switch", "operator", "owner"},
    "operate": {"operator"},
}
EXPECTED = {
    ("POST", "/v1/calls"): "take-calls",
    ("PUT", "/v1/calls/{call_id:uuid}/recording"): "take-calls",
    ("DELETE", "/v1/calls/{call_id:uuid}"): "take-calls",
    ("GET", "/v1/calls"): "read",
    ("GET", "/v1/mailboxes/{extension:str}"): "read-mailbox",
    ("GET", "/v1/mailboxes/{extension:str}/messages/{message_id:uuid}"): "read-mailbox",
    ("PATCH", "/v1/mailboxes/{extension:str}/messages/{message_id:uuid}"): "use-mailbox",
    ("DELETE", "/v1/mailboxes/{extension:str}/messages/{message_id:uuid}"): "use-mailbox",
    ("GET", "/v1/mailboxes/{extension:str}/messages/{message_id:uuid}/audio"): "use-mailbox",
    ("GET", "/v1/mailboxes/{extension:str}/messages/{message_id:uuid}/peaks"): "use-mailbox",
    ("GET", "/v1/mailboxes/{extension:str}/profile"): "read-mailbox",
    ("PUT", "/v1/mailboxes/{extension:str}/greetings/{kind:str}"): "use-mailbox",
    ("GET", "/v1/mailboxes/{extension:str}/greetings/{kind:str}"): "serve-callers",
    ("DELETE", "/v1/mailboxes/{extension:str}/greetings/{kind:str}"): "use-mailbox",
    ("PUT", "/v1/mailboxes/{extension:str}/pin"): "use-mailbox",
    ("DELETE", "/v1/mailboxes/{extension:str}/pin"): "use-mailbox",
    ("POST", "/v1/mailboxes/{extension:str}/pin/check"): "serve-callers",
    ("GET", "/v1/pending"): "read",
    ("GET", "/v1/servers"): "read",
    ("GET", "/v1/projections"): "read",
    ("GET", "/v1/messages/{message_id:uuid}"): "read",
    ("GET", "/v1/messages/{message_id:uuid}/story"): "read",
    ("POST", "/v1/messages/{message_id:uuid}/requeue"): "operate",
    ("POST", "/v1/mailboxes/{extension:str}/rehome"): "operate",
    ("POST", "/v1/mailboxes/{extension:str}/hold"): "operate",
    ("DELETE", "/v1/mailboxes/{extension:str}/hold"): "operate",
    ("POST", "/v1/retention/run"): "operate",
    ("POST", "/v1/erasures"): "operate",
    ("GET", "/v1/erasures/{of:uuid}"): "operate",
    ("GET", "/v1/log"): "operate",
    ("GET", "/v1/log/checkpoint"): "read",
    ("GET", "/v1/log/proof/{message_id:uuid}"): "operate",
    ("GET", "/v1/log/tlog/checkpoint"): "read",
    ("GET", "/v1/log/tlog/tile/{level:int}/{place:path}"): "read",
    ("GET", "/v1/log/tlog/tile/entries/{place:path}"): "operate",
    ("POST", "/v1/log/backups"): "operate",
    ("POST", "/v1/log/acknowledgements"): "operate",
    ("GET", "/healthz"): "open",
    ("GET", "/readyz"): "any-token",
    ("GET", "/metrics"): "read",
    ("GET", "/openapi.json"): "any-token",
}
ROUTES = [
    (str(method), path, handler.opt.get("access"))
    for handler in HANDLERS
    for method in sorted(handler.http_methods)
    for path in sorted(handler.paths)
]


@pytest.fixture(scope="module")
def clients(api):
    return {
        "nobody": api.client(),
        "switch": api.client(Scope.SWITCH),
        "reader": api.client(Scope.READER),
        "operator": api.client(Scope.OPERATOR),
        "owner": api.client(Scope.OWNER, mailboxes=("1901",)),
        "other-owner": api.client(Scope.OWNER, mailboxes=("1902", "1901@sales")),
    }


def test_every_route_has_the_rule_that_is_expected_of_it():
    assert {(m, p): rule.name for m, p, rule in ROUTES if isinstance(rule, AccessRule)} == EXPECTED
    assert all(isinstance(rule, AccessRule) for _, _, rule in ROUTES)


@pytest.mark.parametrize("who", sorted(EVERYBODY))
@pytest.mark.parametrize(("method", "path"), sorted(EXPECTED))
def test_a_route_serves_exactly_whom_it_should(clients, method, path, who):
    concrete = re.sub(r"{\w+:uuid}", str(some_id()), path).replace("{extension:str}", "1901")
    concrete = concrete.replace("{level:int}", "0").replace("{place:path}", "000.p/1")
    answer = clients[who].request(method, concrete)
    if who in WHO[EXPECTED[method, path]]:
        assert answer.status_code not in {401, 403}
    else:
        assert answer.status_code == (401 if who == "nobody" else 403)


def test_an_owner_reaches_no_other_mailbox_by_naming_another_context(api):
    owner = api.client(Scope.OWNER, mailboxes=("1901",))
    assert owner.get("/v1/mailboxes/1901").status_code == 200
    assert owner.get("/v1/mailboxes/1901?context=sales").status_code == 403
    assert owner.get("/v1/mailboxes/1901?context=sales&context=default").status_code == 400
    assert owner.get("/v1/mailboxes/1901?context=default&context=sales").status_code == 400


def test_an_owner_reaches_no_message_of_another_mailbox_through_their_own(api):
    message = api.leave_message("1903")
    owner = api.client(Scope.OWNER, mailboxes=("1901",))
    answer = owner.get(f"/v1/mailboxes/1901/messages/{message['message_id']}/audio")
    assert answer.status_code == 404
