"""Two servers in real processes that know each other, with limits of a test's choice."""

import re
from pathlib import Path

import httpx

from tests.support.api import wav
from tests.support.processes import ServerProcess, free_ports, wait_for
from vmledger.cluster import write_cluster

EXTENSIONS = {"alpha": ["1000-1999"], "bravo": ["2000-2999"]}
SETTLE_S = 30.0


def write_pair(directory: Path) -> dict[str, Path]:
    """Write alpha and bravo on free ports; give their configuration files."""
    ports = free_ports(4)
    of_each = {"alpha": (ports[0], ports[1]), "bravo": (ports[2], ports[3])}
    files = write_cluster(directory, list(EXTENSIONS), EXTENSIONS, of_each)
    for file in files:
        # A peer that was away is asked again soon.
        set_keys(file, backoff_max_s=1, probe_interval_s=0.5)
    return dict(zip(EXTENSIONS, files, strict=True))


def set_keys(config: Path, **values: object) -> None:
    """Set keys that stand as comments in a fresh configuration file."""
    text = config.read_text()
    for key, value in values.items():
        shown = f'"{value}"' if isinstance(value, str) else value
        text, count = re.subn(rf"(?m)^#? ?{key} = .*$", f"{key} = {shown}", text)
        assert count == 1, f"{key} stands {count} times in {config}"
    config.write_text(text)


CALLER = "+15550177"
"""Who makes every call."""


class Client:
    """An operator's and a switch's view of one server."""

    def __init__(self, server: ServerProcess) -> None:
        token = (server.config.parent / "data" / "operator.token").read_text().strip()
        self.http = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60
        )

    def report(self, extension: str) -> str:
        """Report a call nobody answered; gives where its recording goes."""
        body = {"called_extension": extension, "status": "no-answer", "caller_number": CALLER}
        answer = self.http.post("/v1/calls", json=body)
        assert answer.status_code == 201, answer.text
        return answer.headers["location"]

    def record(self, place: str, audio: bytes | None = None) -> httpx.Response:
        """Hand over a recording."""
        headers = {"Content-Type": "audio/wav"}
        return self.http.put(place, content=audio or wav(), headers=headers)

    def leave(self, extension: str, audio: bytes | None = None) -> dict:
        """Leave a message that must be accepted."""
        answer = self.record(self.report(extension), audio)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def pending(self) -> int:
        return self.http.get("/v1/pending").json()["count"]

    def mailbox(self, extension: str) -> list[str]:
        """List the messages of a mailbox, the newest first."""
        answer = self.http.get(f"/v1/mailboxes/{extension}")
        return [message["message_id"] for message in answer.json()["messages"]]

    def callers(self, extension: str) -> set[tuple[str, str | None]]:
        """Say how the callers of a mailbox's messages are shown: state and number."""
        answer = self.http.get(f"/v1/mailboxes/{extension}", params={"limit": 1000})
        shown = answer.json()["messages"]
        return {(message["caller_state"], message["caller_number"]) for message in shown}

    def audio(self, extension: str, message_id: str) -> bytes:
        headers = {"Accept": "audio/wav"}
        path = f"/v1/mailboxes/{extension}/messages/{message_id}/audio"
        answer = self.http.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.content

    def metric(self, name: str, **labels: str) -> float:
        """Read one number; 0 when it is not there."""
        for line in self.http.get("/metrics").text.splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and dict(re.findall(r'(\w+)="([^"]*)"', found[1] or "")) == labels:
                return float(found[2])
        return 0.0


def eventually(claim, within_s: float = SETTLE_S) -> None:
    """Wait for another process to make it true."""
    assert wait_for(claim, within_s), "it did not come true"
