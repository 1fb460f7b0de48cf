"""The demonstration's servers: real processes that cannot outlive the one that started them.

Source: claim 15 (any number of coupled apparatuses).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ledger.configuration import Configuration
from ledger.errors import LedgerError, NotFoundError
from vmledger.cli.api_client import ApiClient, local_url
from vmledger.cli.errors import ServerAwayError
from vmledger.cluster import HOST

POLL_S: Final = 0.05
START_DEADLINE_S: Final = 30.0
STOP_DEADLINE_S: Final = 15.0
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class DemoError(LedgerError):
    """A promise of the demonstration did not hold, or one of its servers did not come up."""


@dataclass
class ServerProcess:
    """One server of the demonstration."""

    config: Configuration
    config_path: Path
    log_path: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """Its name in the configuration."""
        return self.config.server

    @property
    def api(self) -> ApiClient:
        """A client for it, with the operator token that it wrote at its start."""
        token = (self.config.data / "operator.token").read_text("ascii").strip()
        return ApiClient(local_url(self.config), token)

    def start(self) -> None:
        """Start it; `wait_until_ready` says when it takes calls."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - this very program, with our own file
                [sys.executable, "-m", "vmledger", "serve", "--config", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Out of the terminal's reach: on Ctrl-C the demonstration itself stops them.
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - no other thread runs yet
            )

    def wait_until_ready(self) -> None:
        """Return when it takes calls; raises DemoError when it ends or never does."""
        wait_until(
            self._is_ready,
            START_DEADLINE_S,
            lambda: f"server {self.id} did not become ready; its log ends:\n{self.last_words()}",
        )

    def _is_ready(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise DemoError(f"server {self.id} ended at its start:\n{self.last_words()}")
        try:
            self.api.request("GET", "/readyz")
        except (LedgerError, FileNotFoundError):
            return False
        return True

    def kill(self) -> None:
        """End it as a power cut would: no handler runs, nothing is flushed."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def terminate(self) -> None:
        """Ask it to end; `stop` waits for that."""
        if self.process is not None:
            self.process.terminate()

    def stop(self) -> int:
        """Ask it to end, and give its exit code; it is killed when it does not listen."""
        if self.process is None:
            return 0
        self.terminate()
        try:
            return self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self.process = None

    def last_words(self, lines: int = 15) -> str:
        """Give the end of its log."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def _die_with(parent: int) -> Callable[[], None]:
    """Make what runs in the child before it becomes a server."""

    def ask_the_kernel() -> None:
        # The kernel kills the child when its parent ends, however that ends.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # It ended between the fork and the line above.
            os._exit(1)

    return ask_the_kernel


def wait_until(
    is_true: Callable[[], bool], deadline_s: float, complaint: Callable[[], str]
) -> None:
    """Ask again and again until it is true; raises DemoError with the complaint after that."""
    end = time.monotonic() + deadline_s
    while not is_true():
        if time.monotonic() > end:
            raise DemoError(complaint())
        time.sleep(POLL_S)


def free_ports(ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Find two ports of the loopback interface for each server, on which nobody listens now."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(2 * len(ids))]
    try:
        ports = [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()
    return dict(zip(ids, zip(ports[::2], ports[1::2], strict=True), strict=True))


Servers = Mapping[str, ServerProcess]


def is_gone(server: ServerProcess) -> bool:
    """Does nobody answer at its address any more?"""
    try:
        server.api.request("GET", "/healthz")
    except ServerAwayError:
        return True
    return False


def message_at(server: ServerProcess, message_id: str) -> dict[str, Any] | None:
    """Ask a server for a message; None when it does not have it."""
    try:
        found: dict[str, Any] = server.api.get(f"/v1/messages/{message_id}")
    except NotFoundError:
        return None
    return found
