"""From the end of an upload to the message being durable at its home: two servers, real sockets.

Two server processes on loopback. The clock runs from the last byte of the recording to the answer,
which comes when the home's signed receipt is recorded at the server that took the call. Baseline,
alternating with it in the same run: the same upload to the server that is the mailbox's home, so
that the difference is what the way to the home costs. Then the same while another home is dead and
a third one is frozen (it accepts connections and answers nothing): nobody else may notice.

Goal: median below 50 ms, in all three; more than the figure by a slow disk is a slow disk.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.report import report
from tests.support.processes import ServerProcess, Servers, free_ports
from vmledger.cluster import write_cluster

CALLS = 40
GOAL_MS = 50.0
SPEECH = Path(__file__).parents[1] / "vmledger" / "speech"
EXTENSIONS = {
    "alpha": ["1000-1999"],
    "bravo": ["2000-2999"],
    "charlie": ["3000-3999"],
    "delta": ["4000-4999"],
}


class Switch:
    """A telephone system that talks to one server over one connection."""

    def __init__(self, server: ServerProcess) -> None:
        token = (server.config.parent / "data" / "operator.token").read_text().strip()
        host, port = server.settings["listen"]["api"].rsplit(":", 1)
        self._connection = HTTPConnection(host, int(port), timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> dict[str, Any]:
        return self.request("GET", path, b"", "application/json")

    def take_message(self, extension: str, audio: bytes, content_type: str) -> dict[str, Any]:
        """Leave a message as fast as possible; gives the server's answer."""
        report = msgspec.json.encode({"called_extension": extension, "status": "no-answer"})
        call = self.request("POST", "/v1/calls", report, "application/json")
        return self.request("PUT", f"/v1/calls/{call['call_id']}/recording", audio, content_type)

    def request(self, method: str, path: str, body: bytes, content_type: str) -> dict[str, Any]:
        self._connection.request(method, path, body, self._headers | {"Content-Type": content_type})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status not in (200, 201):
            raise RuntimeError(f"{method} {path}: {answer.status} {data!r}")
        return msgspec.json.decode(data, type=dict[str, Any])

    def leave_message(self, extension: str, audio: bytes) -> tuple[float, bool]:
        """Leave a message; gives milliseconds from the end of the upload, and is it at its home?"""
        report = msgspec.json.encode({"called_extension": extension, "status": "no-answer"})
        call = self.request("POST", "/v1/calls", report, "application/json")
        path = f"/v1/calls/{call['call_id']}/recording"
        self._connection.putrequest("PUT", path)
        for name, value in (self._headers | {"Content-Type": "audio/wav"}).items():
            self._connection.putheader(name, value)
        self._connection.putheader("Content-Length", str(len(audio)))
        self._connection.endheaders(audio[:-1])
        time.sleep(0.02)  # the rest of the recording has long arrived when the caller hangs up
        began_s = time.perf_counter()
        self._connection.send(audio[-1:])
        answer = self._connection.getresponse()
        data = answer.read()
        took_ms = (time.perf_counter() - began_s) * 1000
        if answer.status != 201:
            raise RuntimeError(f"{answer.status} {data!r}")
        return took_ms, not msgspec.json.decode(data)["is_pending"]


def measure(switch: Switch, audio: bytes, calls: int) -> tuple[float, float]:
    """Give the medians for a remote home and for the own one, call by call in turn."""
    remote_ms, own_ms = [], []
    for number in range(calls):
        took_ms, is_at_home = switch.leave_message("2001", audio + bytes([number]))
        if not is_at_home:
            raise RuntimeError("the message was not at its home in time")
        remote_ms.append(took_ms)
        own_ms.append(switch.leave_message("1001", audio + bytes([number]))[0])
    return statistics.median(remote_ms), statistics.median(own_ms)


def show(name: str, remote_ms: float, own_ms: float) -> None:
    report(name, remote_ms, "ms", "the same upload to the mailbox's own server", own_ms, GOAL_MS)


def main(directory: Path, calls: int) -> None:
    ports = free_ports(2 * len(EXTENSIONS))
    listen = {name: (ports[2 * n], ports[2 * n + 1]) for n, name in enumerate(EXTENSIONS)}
    configs = write_cluster(directory, list(EXTENSIONS), EXTENSIONS, listen)
    audio = min(SPEECH.glob("*.wav")).read_bytes()
    with Servers(configs) as servers:
        servers.start_all()
        switch = Switch(servers["alpha"])
        measure(switch, audio, 3)
        show("call_latency", *measure(switch, audio, calls))
        servers["charlie"].kill9()
        servers["delta"].freeze()
        for extension in ("3001", "4001"):
            for number in range(3):
                switch.leave_message(extension, audio + bytes([number]))
        show("call_latency_one_home_dead_one_slow", *measure(switch, audio, calls))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place), CALLS * (5 if "--full" in sys.argv else 1))
