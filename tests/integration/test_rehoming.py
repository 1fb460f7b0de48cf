"""A mailbox moves between real servers, while calls come in and servers are killed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import pytest

from ledger.errors import ConflictError, LedgerError
from tests.support.command_line import CommandLine
from tests.support.processes import ServerProcess, Servers, free_ports, wait_for
from vmledger.cli.api_client import ApiClient
from vmledger.cluster import write_cluster

EXTENSIONS = {"alpha": ["2000-2999"], "bravo": ["3000-3999"], "charlie": ["4000-4999"]}
SPEECH = min(Path(str(files("vmledger") / "speech")).glob("*.wav")).read_bytes()
SETTLE_S = 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    ports = free_ports(6)
    places = {name: (ports[2 * i], ports[2 * i + 1]) for i, name in enumerate(EXTENSIONS)}
    folder = tmp_path_factory.mktemp("rehoming")
    with Servers(write_cluster(folder, list(EXTENSIONS), EXTENSIONS, places)) as servers:
        yield servers


@pytest.fixture(autouse=True)
def everybody_up(cluster: Servers) -> None:
    """Whatever a test before killed runs again."""
    cluster.start_all()


def api(server: ServerProcess) -> ApiClient:
    token = (server.config.parent / "data" / "operator.token").read_text().strip()
    return ApiClient(server.url, token)


def command_line(server: ServerProcess) -> CommandLine:
    return CommandLine(server.config.parent, server.config)


def leave(server: ServerProcess, extension: str) -> str:
    """A caller leaves a message at this server; gives the message's id."""
    report = {"called_extension": extension, "status": "no-answer", "caller_number": "100"}
    decision = api(server).send("POST", "/v1/calls", report)
    path = f"/v1/calls/{decision['call_id']}/recording"
    stored = api(server).request("PUT", path, SPEECH, {"Content-Type": "audio/wav"}).json()
    return str(stored["message_id"])


def mark(server: ServerProcess, extension: str, message_id: str, status: str) -> None:
    path = f"/v1/mailboxes/{extension}/messages/{message_id}"
    api(server).send("PATCH", path, {"status": status})


def mailbox(server: ServerProcess, extension: str) -> Any:
    return api(server).get(f"/v1/mailboxes/{extension}", limit=1000)


def listed(server: ServerProcess, extension: str) -> dict[str, str]:
    """Give the messages that are at this server and wait for no other, with their status."""
    found = mailbox(server, extension)["messages"]
    return {m["message_id"]: m["status"] for m in found if not m["is_pending"]}


def nothing_at(extension: str, *servers: ServerProcess) -> bool:
    return all(not mailbox(server, extension)["messages"] for server in servers)


def move(server: ServerProcess, extension: str, to: str, *, force: bool = False) -> Any:
    path = f"/v1/mailboxes/{extension}/rehome"
    return api(server).send("POST", path, {"to": to, "force": force})


def expect_sound_logs(*servers: ServerProcess) -> None:
    for server in servers:
        command_line(server)("log", "verify")


class Callers:
    """People who call a mailbox at every server, one after the other, until they are stopped."""

    def __init__(self, extension: str, *servers: ServerProcess) -> None:
        self.left: list[str] = []
        self._extension = extension
        self._servers = servers
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def _call(self) -> None:
        for _ in range(30):
            for server in self._servers:
                if self._is_over.is_set():
                    return
                with contextlib.suppress(LedgerError):  # that one is dead: the caller hears so
                    self.left.append(leave(server, self._extension))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


@pytest.mark.parametrize(("extension", "killed"), [("2001", "alpha"), ("2002", "bravo")])
def test_mailbox_moves_whole_while_calls_come_in_and_a_home_is_killed(
    cluster: Servers, extension: str, killed: str
):
    alpha, bravo, charlie = cluster.all
    new, heard, saved, deleted = (leave(alpha, extension) for _ in range(4))
    for message_id, status in ((heard, "heard"), (saved, "saved"), (deleted, "deleted")):
        mark(alpha, extension, message_id, status)
    greeting = f"/v1/mailboxes/{extension}/greetings/unavailable"
    api(alpha).request("PUT", greeting, SPEECH, {"Content-Type": "audio/wav"})
    api(alpha).send("PUT", f"/v1/mailboxes/{extension}/pin", {"pin": "2580"})

    with Callers(extension, alpha, bravo, charlie) as callers:
        assert wait_for(lambda: len(callers.left) >= 3, SETTLE_S)
        moved = move(alpha, extension, "bravo")
        cluster[killed].kill9()
        count = len(callers.left)
        assert wait_for(lambda: len(callers.left) >= count + 3, SETTLE_S)
        cluster[killed].start()
    assert (moved["home"], moved["epoch"]) == ("bravo", 2)

    expected = {new, heard, saved, deleted, *callers.left}
    assert wait_for(lambda: listed(bravo, extension).keys() >= expected, SETTLE_S, 0.2), (
        expected - listed(bravo, extension).keys()
    )
    assert wait_for(lambda: nothing_at(extension, alpha, charlie), SETTLE_S, 0.2)
    there = listed(bravo, extension)
    marks = [there[message_id] for message_id in (new, heard, saved, deleted)]
    assert marks == ["new", "heard", "saved", "deleted"]
    path = f"/v1/mailboxes/{extension}/messages/{saved}/audio"
    assert api(bravo).request("GET", path, headers={"Accept": "audio/original"}).body == SPEECH
    for server in cluster.all:
        assert mailbox(server, extension)["home"] == "bravo"
        assert mailbox(server, extension)["epoch"] == 2
    # The new home may change what the old one recorded, and the old one no more.
    with pytest.raises(ConflictError, match="bravo"):
        api(alpha).send("PUT", f"/v1/mailboxes/{extension}/pin", {"pin": "1470"})
    checked = api(bravo).send("POST", f"/v1/mailboxes/{extension}/pin/check", {"pin": "2580"})
    assert checked["matches"]
    api(bravo).send("PUT", f"/v1/mailboxes/{extension}/pin", {"pin": "1470"})
    expect_sound_logs(*cluster.all)


def test_mailbox_of_a_dead_home_is_taken_by_force_and_what_was_there_follows_later(
    cluster: Servers,
):
    alpha, bravo, charlie = cluster.all
    before = leave(alpha, "2003")
    alpha.kill9()
    with pytest.raises(ConflictError, match="alpha"):
        move(bravo, "2003", "bravo")
    elsewhere = ("mailbox", "rehome", "2003", "--to", "charlie", "--force", "--yes")
    refused = command_line(bravo)(*elsewhere, code=2)
    assert "do this at charlie" in refused.err
    command_line(bravo)("mailbox", "rehome", "2003", "--to", "bravo", "--force", "--yes")
    meanwhile = leave(charlie, "2003")
    assert wait_for(lambda: listed(bravo, "2003").keys() == {meanwhile}, SETTLE_S, 0.2)
    alpha.start()
    assert wait_for(lambda: listed(bravo, "2003").keys() == {before, meanwhile}, SETTLE_S, 0.2)
    assert wait_for(lambda: nothing_at("2003", alpha, charlie), SETTLE_S, 0.2)
    assert mailbox(alpha, "2003")["home"] == "bravo"


def test_mailbox_that_comes_back_has_its_messages_once(cluster: Servers):
    alpha, bravo, _ = cluster.all
    message_id = leave(alpha, "2004")
    shown = command_line(alpha)("mailbox", "rehome", "2004", "--to", "bravo", "--wait").out
    assert "lives on bravo now (epoch 2)" in shown
    assert listed(bravo, "2004") == {message_id: "new"}
    mark(bravo, "2004", message_id, "saved")
    command_line(bravo)("mailbox", "rehome", "2004", "--to", "alpha", "--wait")
    assert listed(alpha, "2004") == {message_id: "saved"}
    told = command_line(alpha)("message", "story", message_id, "--json").json["events"]
    homes = [e["event"]["recorded_by"] for e in told if e["event"]["event"] == "message-delivered"]
    assert homes == ["alpha", "bravo", "alpha"]
    shown = command_line(alpha)("mailbox", "2004", "--json").json
    assert (shown["home"], shown["epoch"]) == ("alpha", 3)
    then = command_line(alpha)("mailbox", "2004", "--position", shown["as_of"], "--json").json
    assert then["messages"] == shown["messages"]
