"""Real servers in real processes, for tests that kill them.

`Servers` starts ``vmledger serve`` on configuration files, waits until each answers, kills, stops
and restarts them, keeps what they print, and leaves no process behind: not when a test fails, and
not when the test run itself is killed (the kernel then kills them).
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import warm
from tests.support.warm import WarmProcess

PROGRAM = (sys.executable, "-m", "vmledger")
SERVE = (*PROGRAM, "serve", "--config")
DEFAULT_API = "127.0.0.1:8025"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0

DIE_WITH_STARTER = ("setpriv", "--pdeathsig", "KILL")
"""The kernel kills the program when the thread that started it ends, however it ends."""


class ServerDiedError(AssertionError):
    """A server ended, or did not answer, when it should run. The text holds what it printed."""


class ServerProcess:
    """One server: a process now and then, on one configuration file."""

    def __init__(self, config: Path, command: Sequence[str] = SERVE) -> None:
        self.config = config
        self.settings = tomllib.loads(config.read_text())
        self.name = str(self.settings["server"])
        self.url = f"http://{self.settings.get('listen', {}).get('api', DEFAULT_API)}"
        self.log = config.parent / f"{self.name}.log"
        self._command = (*command, str(config))
        self._process: subprocess.Popen[bytes] | WarmProcess | None = None

    @property
    def pid(self) -> int:
        """The process id; an error when it does not run."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start the process; with ``wait``, return when it answers on ``/healthz``."""
        assert not self.is_running, f"{self.name} runs already"
        with self.log.open("ab") as log:
            if warm.is_enabled() and self._command[: len(SERVE)] == SERVE:
                arguments = self._command[len(PROGRAM) :]
                self._process = WarmProcess(arguments, stdout=log, stderr=log)
            else:
                self._process = subprocess.Popen(
                    [*DIE_WITH_STARTER, *self._command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when it answers; raise ServerDiedError when it ends first, or never answers."""

        def answers() -> bool:
            if not self.is_running:
                raise ServerDiedError(f"{self.name} ended while starting\n{self.output()}")
            return self._answers()

        if not wait_for(answers, timeout_s):
            raise ServerDiedError(f"{self.name} did not answer in time\n{self.output()}")

    def kill9(self) -> None:
        """End it as a power cut of the process would: nothing of it runs after this returns."""
        self._signal_all(signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """Ask it to stop, wait, and give its exit status; raise when it does not stop."""
        assert self._process is not None, f"{self.name} was not started"
        self._process.terminate()
        try:
            status = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise ServerDiedError(f"{self.name} did not stop\n{self.output()}") from None
        self._signal_all(signal.SIGKILL)
        return status

    def restart(self) -> None:
        """Stop it if it runs, and start it."""
        if self.is_running:
            self.stop()
        self.start()

    def freeze(self) -> None:
        """Make it deaf without closing its sockets; `thaw` lets it go on."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def output(self, last_lines: int = 60) -> str:
        """Give the end of what it has printed since its first start."""
        if not self.log.exists():
            return "(it was never started)"
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-last_lines:]) or "(it printed nothing)"

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _signal_all(self, number: signal.Signals) -> None:
        """Signal the process and whatever it has started: they share a process group."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(STOP_TIMEOUT_S)


class Servers:
    """Some servers by name. A context manager: at its end none of them runs."""

    def __init__(self, configs: Sequence[Path] = (), command: Sequence[str] = SERVE) -> None:
        self._command = command
        self._servers: dict[str, ServerProcess] = {}
        for config in configs:
            self.add(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self.all:
            server.kill9()

    def __getitem__(self, name: str) -> ServerProcess:
        return self._servers[name]

    @property
    def all(self) -> list[ServerProcess]:
        return list(self._servers.values())

    def add(self, config: Path) -> ServerProcess:
        """Take in a server by its configuration, without starting it."""
        server = ServerProcess(config, self._command)
        self._servers[server.name] = server
        return server

    def start_all(self) -> None:
        """Start those that do not run, all at once, and wait until each answers."""
        starting = [server for server in self.all if not server.is_running]
        for server in starting:
            server.start(wait=False)
        for server in starting:
            server.wait_until_ready()

    def outputs(self) -> list[tuple[str, str]]:
        """Give title and text for a failed test's report, one for each server."""
        return [(f"output of server {server.name}", server.output()) for server in self.all]


def wait_for(condition: Callable[[], bool], timeout_s: float, pause_s: float = 0.02) -> bool:
    """Ask until the condition holds, and give True; False when it never did in that time.

    Another process cannot tell us when it is ready; a test that fails here fails by its result.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
    return True


def free_ports(count: int) -> list[int]:
    """Give TCP ports on loopback that nobody uses at this moment, all different.

    Until its server listens, a port is anybody's. So none is given twice in a row, each process
    that runs tests has ports of its own, and the system gives none of these to clients.
    """
    return list(itertools.islice(filter(_is_free, _PORTS), count))


def _own_ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    own = range(10_000 + 5_000 * worker, 15_000 + 5_000 * worker)
    start = random.randrange(len(own))
    return itertools.cycle([*own[start:], *own[:start]])


_PORTS = _own_ports()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
