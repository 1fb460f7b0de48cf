"""The harness that starts and kills servers can be relied on, whatever program it is given."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.processes import ServerDiedError, ServerProcess, Servers, free_ports, wait_for

ROOT = Path(__file__).parents[2]

PROGRAM = """
import http.server, subprocess, sys, tomllib
settings = tomllib.load(open(sys.argv[-1], "rb"))
host, port = settings["listen"]["api"].split(":")
print("hello from", settings["server"], flush=True)
if settings.get("ends"):
    sys.exit("cannot serve")
if settings.get("helper"):
    helper = subprocess.Popen(["sleep", "600"])
    print("helper", helper.pid, flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass

http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


@pytest.fixture
def command(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return (sys.executable, str(program))


@pytest.fixture
def config(tmp_path):
    def write(server, extra=""):
        path = tmp_path / server / "vmledger.toml"
        path.parent.mkdir()
        (port,) = free_ports(1)
        path.write_text(f'server = "{server}"\n{extra}\n[listen]\napi = "127.0.0.1:{port}"\n')
        return path

    return write


def is_alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def test_started_server_answers_and_killed_one_does_not(config, command):
    with Servers([config("alpha")], command) as servers:
        servers.start_all()
        pid = servers["alpha"].pid
        assert is_alive(pid)
        servers["alpha"].kill9()
        assert not is_alive(pid)
        assert not servers["alpha"].is_running


def test_killed_server_can_be_started_again(config, command):
    with Servers([config("alpha")], command) as servers:
        servers.start_all()
        first = servers["alpha"].pid
        servers["alpha"].kill9()
        servers["alpha"].start()
        assert servers["alpha"].pid != first
        assert servers["alpha"].output().count("hello from alpha") == 2


def test_stopped_server_gives_its_exit_status(config, command):
    with Servers([config("alpha")], command) as servers:
        servers.start_all()
        assert servers["alpha"].stop() == -signal.SIGTERM


def test_server_that_ends_while_starting_is_reported_with_what_it_printed(config, command):
    server = ServerProcess(config("alpha", "ends = true"), command)
    with pytest.raises(ServerDiedError, match=r"(?s)alpha ended while starting.*cannot serve"):
        server.start()


def test_no_server_and_no_helper_of_one_outlives_the_group(config, command):
    with Servers([config("alpha", "helper = true"), config("bravo")], command) as servers:
        servers.start_all()
        helper = int(servers["alpha"].output().split("helper ")[1].split()[0])
        pids = [*(server.pid for server in servers.all), helper]
        assert all(is_alive(pid) for pid in pids)
    assert wait_for(lambda: not any(is_alive(pid) for pid in pids), 10)


def test_frozen_server_is_alive_and_deaf_until_thawed(config, command):
    with Servers([config("alpha")], command) as servers:
        servers.start_all()
        servers["alpha"].freeze()
        with pytest.raises(ServerDiedError, match="did not answer"):
            servers["alpha"].wait_until_ready(0.1)
        assert servers["alpha"].is_running
        servers["alpha"].thaw()
        servers["alpha"].wait_until_ready()


def test_server_dies_when_the_test_run_is_killed(config, command, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import pathlib, sys, time
            from tests.support.processes import ServerProcess
            server = ServerProcess(pathlib.Path(sys.argv[1]), sys.argv[2:])
            server.start()
            print(server.pid, flush=True)
            time.sleep(600)
            """
        )
    )
    run = subprocess.Popen(
        [sys.executable, script, config("alpha"), *command],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with run:
        pid = int(run.stdout.readline())
        assert is_alive(pid)
        run.kill()
    assert wait_for(lambda: not is_alive(pid), 10)


def test_free_ports_are_all_different():
    ports = free_ports(20)
    assert len(set(ports)) == 20


REPORTING = """
from pathlib import Path

def test_that_fails(servers):
    server = servers.add(Path({config!r}))
    server._command = {command!r}
    server.start()
    assert False, "on purpose"
"""


def test_failed_test_shows_what_its_servers_printed(config, command, tmp_path):
    folder = tmp_path / "failing"
    folder.mkdir()
    path = config("alpha")
    (folder / "conftest.py").write_text(
        "from tests.support.server_reports import pytest_runtest_makereport, servers\n"
    )
    test = REPORTING.format(config=str(path), command=(*command, str(path)))
    (folder / "test_it.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, folder],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "on purpose" in done.stdout
    assert "output of server alpha" in done.stdout
    assert "hello from alpha" in done.stdout
