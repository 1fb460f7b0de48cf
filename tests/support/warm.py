"""Starts the program in copies of a process that has loaded it already.

Most of the time of the tests that use real processes went into Python loading the same modules for
each of them. `WarmProcess` starts the same commands as real processes of their own (killed, frozen,
with their own environment and files), but by fork(2) of one that loaded the modules once. It is
used after `enable`, that is by tests and not by benchmarks; what starts the program otherwise, with
``python -m vmledger``, loads everything as users do.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG: Final = 1
_LOADED: Final = ("vmledger.app", "ledger.storage.sqlite", "ledger.storage.postgres")
_MOST_BYTES: Final = 1 << 18
"""Of a wish: arguments and an environment. The system refuses to send as much at once."""


class WarmProcess:
    """One run of the program; the part of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        stdout: IO[Any],
        stderr: IO[Any],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        wish = {
            "arguments": self.args,
            "env": dict(os.environ if env is None else env),
            "cwd": str(cwd or Path.cwd()),
        }
        self._told, told = os.pipe()
        try:
            files = [stdout.fileno(), stderr.fileno(), told]
            with _LOCK:
                socket.send_fds(_parent(), [json.dumps(wish).encode()], files)
        finally:
            os.close(told)
        self.pid = int(self._line())

    def poll(self) -> int | None:
        """Give its exit status, negative for the signal that killed it; None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float) -> int:
        """Wait for its end; raises subprocess.TimeoutExpired."""
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def _look(self, timeout_s: float) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout_s)[0]:
            self.returncode = int(self._line())
            os.close(self._told)
        return self.returncode

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._told, 1)
            assert byte, "the process that has loaded the program is gone"
            line += byte
        return line


def enable() -> None:
    """Let `is_enabled` be true from now on."""
    _enabled.set()


def is_enabled() -> bool:
    return _enabled.is_set()


_enabled = threading.Event()
_LOCK: Final = threading.Lock()


@cache
def _parent() -> socket.socket:
    """Give the way to the process that copies itself; it ends when this process has."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(its.fileno())],
            cwd=ROOT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # threads are not copied
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
            start_new_session=True,
        )
    return ours


# --- In the process that copies itself ---------------------------------------------------------


def main() -> None:
    """Copy this process for each wish, and tell of each copy its id and how it ended."""
    from vmledger.main import TOPICS  # noqa: PLC0415
    from vmledger.main import main as run_program  # noqa: PLC0415

    for module in (*_LOADED, *(f"vmledger.cli.{topic}" for topic in TOPICS)):
        import_module(module)
    wishes = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(wishes.fileno(), False)
    if _serve(wishes):
        _end(run_program)


def _end(program: Callable[[], None]) -> None:
    """Run the program to its end, and end as Python does, but take nothing apart.

    To take apart all that is loaded takes longer than most commands do.
    """
    status = 0
    try:
        program()
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _serve(wishes: socket.socket) -> bool:
    """Give True in a copy, which is to run the program, and False when nobody is there any more."""
    running: dict[int, tuple[int, int]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(wishes, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not wishes:
                    selector.unregister(key.fileobj)
                    _tell_end(key.fd, *running.pop(key.fd))
                    continue
                data, files, _, _ = socket.recv_fds(wishes, _MOST_BYTES, 3)
                if not data:
                    return False
                pid = os.fork()
                if not pid:
                    for other in running.values():
                        os.close(other[1])
                    wishes.close()
                    _become(json.loads(data), files)
                    return True
                os.close(files[0])
                os.close(files[1])
                running[watch := os.pidfd_open(pid)] = (pid, files[2])
                selector.register(watch, selectors.EVENT_READ)


def _tell_end(watch: int, pid: int, told: int) -> None:
    os.close(watch)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):  # who wanted to know has ended
        os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
    os.close(told)


def _become(wish: dict[str, Any], files: Sequence[int]) -> None:
    """Be the process that was wished for."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(files[0], 1)
    os.dup2(files[1], 2)
    os.write(files[2], b"%d\n" % os.getpid())
    for file in files:
        os.close(file)
    os.chdir(wish["cwd"])
    os.environ.clear()
    os.environ.update(wish["env"])
    sys.argv = ["vmledger", *wish["arguments"]]


if __name__ == "__main__":
    main()
