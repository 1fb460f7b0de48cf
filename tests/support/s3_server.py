"""A real S3 server (rclone) over a directory, for tests."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

KEY, SECRET = "tester", "test-secret"


@contextlib.contextmanager
def s3_server(root: Path):
    """Serve each directory below ``root`` as a bucket; give the endpoint's URL."""
    port = _free_port()
    program = Path(sys.executable).parent / "rclone"
    with subprocess.Popen(
        [
            *(os.fspath(program), "serve", "s3", "--addr", f"127.0.0.1:{port}"),
            *("--auth-key", f"{KEY},{SECRET}", "--config", os.devnull, os.fspath(root)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _wait_until_it_says_so(process)
            # Nobody reads what it logs from here on, and a full pipe would stop it: drain it.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_until_it_says_so(process):
    for line in process.stderr:
        if "Starting s3 server" in line:
            return
    raise RuntimeError("rclone did not start")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
