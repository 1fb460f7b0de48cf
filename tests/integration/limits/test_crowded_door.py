"""Hundreds of real sockets at the listeners of real server processes."""

import contextlib
import socket
import time
from urllib.parse import urlsplit

import pytest

from tests.support.api import wav
from tests.support.pair import Client, eventually, set_keys, write_pair
from tests.support.processes import Servers

PLACES = 60
FLOOD = 200


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    configs = write_pair(tmp_path_factory.mktemp("pair"))
    for config in configs.values():
        set_keys(
            config,
            api_connections=PLACES,
            replication_connections=PLACES,
            head_timeout_s=1,
            body_timeout_s=2,
        )
    with Servers(list(configs.values())) as servers:
        servers.start_all()
        yield servers


@pytest.fixture
def alpha(pair):
    return pair["alpha"]


@pytest.fixture
def bravo(pair):
    return pair["bravo"]


def shed(server, reason):
    """Say how many connections the server has ended for this reason."""
    return Client(server).metric("vmledger_shed_total", place="api-connections", reason=reason)


@contextlib.contextmanager
def flood(address, count=FLOOD, opening=b""):
    """Connect that often, say only this, and stay."""
    with contextlib.ExitStack() as stack:
        crowd = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(address, 10))
            crowd.append(client)
            if opening:
                with contextlib.suppress(OSError):
                    client.sendall(opening)
        yield crowd


def address_of(server, listener="api"):
    host, _, port = server.settings["listen"][listener].rpartition(":")
    return host, int(port)


def read_to_end(client):
    """Give what the server says until it ends the connection."""
    client.settimeout(30)
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := client.recv(4096):
            said += part
    return said


def trickle(client):
    """Send a byte now and then, until that is not possible any more."""
    while True:
        client.sendall(b"x")
        time.sleep(0.2)  # slowness is what is tested


def connect(server):
    return socket.create_connection(address_of(server), 10)


def head_of(client, place, **headers):
    lines = [f"PUT {urlsplit(place).path} HTTP/1.1", "Host: here"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    token = client.http.headers["authorization"]
    return "\r\n".join([*lines, f"Authorization: {token}", "", ""]).encode()


@pytest.mark.parametrize("opening", [b"", b"POST /v1/calls HTTP/1.1\r\nHost: h"])
def test_a_switch_gets_in_while_idle_or_slow_clients_flood_the_api(alpha, opening):
    before = shed(alpha, "displaced") + shed(alpha, "slow-head")
    with flood(address_of(alpha), opening=opening):
        switch = Client(alpha)
        message = switch.leave("1001")
        assert switch.mailbox("1001")[0] == message["message_id"]
        assert switch.metric("vmledger_connections", listener="api") <= PLACES
        after = shed(alpha, "displaced") + shed(alpha, "slow-head")
        assert after - before >= FLOOD - PLACES


def test_peers_are_not_disturbed_by_a_flood_of_the_api(alpha, bravo):
    with flood(address_of(alpha)), flood(address_of(bravo)):
        message = Client(alpha).leave("2001")
        home = Client(bravo)
        eventually(lambda: home.mailbox("2001") == [message["message_id"]])


def test_messages_travel_while_strangers_flood_the_replication_listener(alpha, bravo):
    with flood(address_of(bravo, "replication")):
        message = Client(alpha).leave("2002")
        home = Client(bravo)
        eventually(lambda: home.mailbox("2002") == [message["message_id"]])


def test_a_head_that_trickles_is_ended_with_408(alpha):
    with connect(alpha) as client:
        client.settimeout(0.1)
        said = b""
        for letter in b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 200:
            try:
                client.sendall(bytes([letter]))
                said = client.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if said:
                break
        assert said.startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_says_nothing_at_all_is_ended(alpha):
    with connect(alpha) as client:
        assert read_to_end(client).startswith(b"HTTP/1.1 408 ")


def test_a_head_without_end_is_refused(alpha):
    with connect(alpha) as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                client.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 4096)
        with contextlib.suppress(OSError):  # the server may have ended it already: ENOTCONN
            client.shutdown(socket.SHUT_WR)
        read_to_end(client)
    assert shed(alpha, "large-head") == 1


def test_a_recording_that_stands_still_is_ended_and_what_arrived_is_kept(alpha):
    switch = Client(alpha)
    place = switch.report("1001")
    with connect(alpha) as client:
        client.sendall(head_of(switch, place, Content_Type="audio/wav", Content_Length=16_058))
        client.sendall(wav()[:9_000])
        read_to_end(client)
    assert shed(alpha, "slow-body") == 1
    call_id = place.split("/")[3]
    spool = alpha.config.parent / "data" / "spool"
    assert [path.stem for path in spool.glob("*.zst")] == [call_id]
    assert switch.record(place).status_code == 201


def test_a_recording_that_is_sent_while_it_is_spoken_is_taken(alpha):
    switch = Client(alpha)
    sound = wav(duration_ms=4_000)

    def speak():
        for start in range(0, len(sound), 4_000):
            yield sound[start : start + 4_000]
            time.sleep(0.5)  # real time: that is what is tested

    place = switch.report("1001")
    answer = switch.http.put(place, content=speak(), headers={"Content-Type": "audio/wav"})
    assert answer.status_code == 201


def test_a_body_that_nobody_wants_is_not_listened_to_for_ever(alpha):
    stranger = Client(alpha)
    stranger.http.headers["authorization"] = "Bearer nothing"
    place = f"/v1/calls/{'0' * 8}-0000-0000-0000-{'0' * 12}/recording"
    with connect(alpha) as client:
        client.sendall(head_of(stranger, place, Content_Length=1_000_000))
        assert client.recv(4096).startswith(b"HTTP/1.1 401 ")
        client.settimeout(30)
        with pytest.raises(ConnectionError):
            trickle(client)
    assert shed(alpha, "unread-body") == 1
