"""A server process from its start to its end."""

import json
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from tests.support.processes import ServerProcess, free_ports
from vmledger.cluster import write_cluster


@pytest.fixture
def config(tmp_path):
    ports = free_ports(4)
    (alpha, _) = write_cluster(
        tmp_path,
        ["alpha", "bravo"],
        {"alpha": ["1000-1999"], "bravo": ["2000-2999"]},
        {"alpha": (ports[0], ports[1]), "bravo": (ports[2], ports[3])},
    )
    return alpha


@pytest.fixture
def server(config):
    process = ServerProcess(config)
    process.start()
    yield process
    if process.is_running:
        process.kill9()


def serve(config, *options):
    return subprocess.run(
        [sys.executable, "-m", "vmledger", "serve", "--config", config, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def client(server):
    token = (server.config.parent / "data" / "operator.token").read_text().strip()
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"})


def test_a_second_process_on_the_same_data_is_refused_in_one_sentence(server):
    refused = serve(server.config)
    assert refused.returncode != 0
    assert str(server.pid) in refused.stderr
    assert str(server.config.parent / "data") in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_port_in_use_is_refused_with_the_key_to_change(config):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = config.read_text()
        port = taken.getsockname()[1]
        own = ServerProcess(config).settings["listen"]["api"]
        config.write_text(text.replace(f'"{own}"', f'"127.0.0.1:{port}"', 1))
        refused = serve(config)
    assert refused.returncode != 0
    assert "listen.api" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_with_success(server, number):
    process = server._process
    process.send_signal(number)
    assert process.wait(30) == 0
    assert "action=stopped" in server.output()


def test_what_it_held_is_there_after_a_restart(server):
    call = {"called_extension": "1001", "status": "answered"}
    with client(server) as api:
        call_id = api.post("/v1/calls", json=call).json()["call_id"]
    server.kill9()
    server.start()
    with client(server) as api:
        (found,) = api.get("/v1/calls").json()["calls"]
    assert found["call_id"] == call_id


def test_damaged_read_models_are_made_anew_at_the_start(server):
    with client(server) as api:
        api.post("/v1/calls", json={"called_extension": "1001", "status": "answered"})
    server.kill9()
    for file in (server.config.parent / "data").glob("projections.sqlite*"):
        file.write_bytes(b"no database" * 1000)  # the journal, too: it would mend the rest
    server.start()
    assert "action=read-models-damaged" in server.output()
    with client(server) as api:
        assert len(api.get("/v1/calls").json()["calls"]) == 1


def test_log_lines_can_be_json(config):
    process = ServerProcess(
        config, (sys.executable, "-m", "vmledger", "serve", "--log-format", "json", "--config")
    )
    process.start()
    try:
        lines = [json.loads(line) for line in process.output().splitlines()]
    finally:
        process.kill9()
    assert "serving" in {line.get("action") for line in lines}
