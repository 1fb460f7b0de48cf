"""An SSH server of this machine's, for baselines that go over an encrypted line as we do."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import free_ports, wait_for

_GIVE_UP_S = 10.0
_SEPARATION_FOLDER = Path("/run/sshd")
"""Without it sshd does not start as root; Debian makes it when the service starts."""


def has_ssh_server() -> bool:
    """Is one installed (in Debian: openssh-server)?"""
    return _sshd() is not None and shutil.which("ssh") is not None


@contextmanager
def ssh_server(folder: Path) -> Iterator[tuple[str, str]]:
    """Run one on loopback, with keys of its own in this new folder.

    Gives the command that rsync is to reach it by (``-e``), and the host. It stops at the end.
    """
    folder.mkdir(mode=0o700)
    host_key, user_key = _make_key(folder / "host"), _make_key(folder / "user")
    (port,) = free_ports(1)
    if os.geteuid() == 0:
        _SEPARATION_FOLDER.mkdir(exist_ok=True)
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": host_key,
        "AuthorizedKeysFile": f"{user_key}.pub",
        "PasswordAuthentication": "no",
        "StrictModes": "no",
        "PidFile": "none",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    server = subprocess.Popen([str(_sshd()), "-D", "-f", "/dev/null", *options])
    try:
        assert wait_for(lambda: _listens(port), _GIVE_UP_S), "sshd does not listen"
        unasked = "-oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null -oLogLevel=ERROR"
        yield f"ssh -p {port} -i {user_key} {unasked}", f"{getpass.getuser()}@127.0.0.1"
    finally:
        server.terminate()
        server.wait()


def _sshd() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _make_key(file: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)]
    subprocess.run(command, check=True)
    return file


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
