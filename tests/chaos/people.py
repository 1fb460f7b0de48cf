"""A switch that hands over calls as long as it must, and people who use their mailboxes.

What they are told is noted in `tests.simulation.promises.Told`: that is what the checkers hold the
stores to. An answer that no server should give is noted as broken at once.
"""

from __future__ import annotations

import hashlib
import random
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import httpx
import msgspec

from ledger.ids import uuid7
from ledger.telephony.switch import StoredMessage
from tests.chaos.cluster import SERVERS, USERS, Cluster
from tests.simulation.callers import caller_of
from tests.simulation.people import PINS
from tests.simulation.promises import AcceptedCall, Done, Told
from tests.support.api import wav

SETTLED = tuple(f"{n}{number:03}" for n in (1, 2, 3) for number in range(40))
"""Mailboxes that stay where they are."""
NOMADS = tuple(f"{n}9{number:02}" for n in (1, 2, 3) for number in range(3))
"""Mailboxes that are moved about."""
PATIENCE_S = 120.0
_NO_TLS = ssl.create_default_context()
"""The API speaks plain HTTP here; a client makes a context all the same, which takes its time."""
BUSY = frozenset({429, 503})
"""Come back later: nothing was promised."""


@dataclass(frozen=True)
class PlacedCall:
    """A call, and the sound that its caller leaves: another one for each, made when asked for."""

    server: str
    extension: str
    call_id: UUID
    duration_ms: int

    @property
    def audio(self) -> bytes:
        count = self.duration_ms * 8
        return wav(self.duration_ms)[:-count] + random.Random(self.call_id.int).randbytes(count)


class Tally:
    """What was counted, by many threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, what: str, times: int = 1) -> None:
        with self._lock:
            self._counts[what] += times

    def __getitem__(self, what: str) -> int:
        return self._counts[what]

    def beginning(self, start: str) -> str:
        """Tell all counts whose names begin with this."""
        found = sorted(name for name in self._counts if name.startswith(start))
        return ", ".join(f"{name.removeprefix(start)} {self[name]}" for name in found)


class Crowd:
    """All people and the switch, each in a thread. `stop` lets them finish what they began."""

    def __init__(self, cluster: Cluster, seed: int, told: Told, calls_per_s: float) -> None:
        self.told = told
        self.tally = Tally()
        self.taken: list[AcceptedCall] = []
        self._cluster = cluster
        self._began_s = time.monotonic()
        self._stopping = threading.Event()
        lines = max(4, round(calls_per_s * 3))
        self._threads = [
            threading.Thread(target=self._line, args=(random.Random(f"{seed}/{n}"), lines, n))
            for n in range(lines)
        ]
        self._threads.append(threading.Thread(target=self._users, args=(random.Random(seed),)))
        self._calls_per_s = calls_per_s

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No new calls and deeds; a call that is being handed over is handed over to its end."""
        self._stopping.set()

    @property
    def is_busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._began_s

    def broken(self, what: str) -> None:
        self.told.broken.append(f"{what} (after {self.now_s:.1f} s)")

    # --- the switch ---------------------------------------------------------------------------

    def _line(self, rng: random.Random, lines: int, number: int) -> None:
        """One line of the switch: call after call."""
        clients = {
            server: self._client(self._cluster.way("switch", server).port, server, "switch")
            for server in SERVERS
        }
        while not self._stopping.wait(rng.expovariate(self._calls_per_s / lines)):
            server = rng.choice(SERVERS)
            extension = rng.choice(NOMADS if rng.random() < 0.1 else SETTLED)
            call_id = uuid7(time.time_ns() // 1_000_000, rng.randbytes(10))
            call = PlacedCall(server, extension, call_id, rng.randrange(1000, 4000))
            self.tally.count("calls placed")
            try:
                self._place(clients[server], call, rng)
            except Exception as error:
                self.broken(f"the switch failed: {error!r}")

    def _place(self, client: httpx.Client, call: PlacedCall, rng: random.Random) -> None:
        """Report a call and hand over its recording, again and again until it is stored."""
        report = {
            "called_extension": call.extension,
            "caller_number": caller_of(call.call_id).number,
            "status": rng.choice(("no-answer", "busy")),
            "call_id": str(call.call_id),
        }
        end_s = time.monotonic() + PATIENCE_S
        recordings = 0
        is_reported = False
        while time.monotonic() < end_s:
            try:
                if not is_reported:
                    answer = client.post("/v1/calls", json=report)
                    is_reported = answer.status_code == 201
                    self._judge(answer, {201}, "a report")
                if is_reported:
                    recordings += 1
                    if recordings > 1:
                        self.tally.count("recordings handed over again")
                    if self._hand_over(client, call, rng):
                        return
            except httpx.HTTPError as error:
                self.tally.count("switch without an answer")
                self.tally.count(f"switch: {type(error).__name__}")
            time.sleep(rng.uniform(0.3, 2.0))
        self.tally.count("calls given up")

    def _hand_over(self, client: httpx.Client, call: PlacedCall, rng: random.Random) -> bool:
        answer = client.put(
            f"/v1/calls/{call.call_id}/recording",
            content=_spoken(call.audio, 2.0 if rng.random() < 0.3 else 0.0),
            headers={"Content-Type": "audio/wav"},
        )
        self._judge(answer, {200, 201}, f"the recording of call {call.call_id}")
        if answer.status_code not in (200, 201):
            return False
        message = msgspec.json.decode(answer.content, type=StoredMessage)
        if message.digest != hashlib.sha256(call.audio).hexdigest():
            self.broken(f"{call.server} took another recording for that of call {call.call_id}")
        accepted = AcceptedCall(call, call.call_id, message, self.now_s)
        self.told.accepted[call.call_id] = accepted
        self.taken.append(accepted)
        self.tally.count("calls accepted")
        if answer.status_code == 200:
            self.tally.count("accepted as stored before")
        return True

    def _judge(self, answer: httpx.Response, wanted: set[int], what: str) -> None:
        """Count an answer; one that is neither wanted nor "later" is none that we may get."""
        self.tally.count(f"answer {answer.status_code}")
        if answer.status_code not in wanted | BUSY:
            self.broken(f"{what} was answered {answer.status_code}: {answer.text[:300]}")

    # --- users --------------------------------------------------------------------------------

    def _users(self, rng: random.Random) -> None:
        clients = {
            server: {
                user: self._client(self._port(server), server, user)
                for user in (*USERS, "operator")
            }
            for server in SERVERS
        }
        acted: defaultdict[UUID, int] = defaultdict(int)
        deeds = (
            lambda: self._use_message(clients, rng, acted),
            lambda: self._greet(clients, rng),
            lambda: self._change_pin(clients, rng),
            lambda: self._move(clients, rng),
        )
        while not self._stopping.wait(rng.uniform(0.1, 0.6)):
            deed = rng.choices(deeds, (20, 1, 0.5, 0.7))[0]
            try:
                deed()
            except httpx.HTTPError:
                self.tally.count("users without an answer")
            except Exception as error:
                self.broken(f"a user's deed failed: {error!r}")

    def _use_message(self, clients, rng: random.Random, acted: defaultdict[UUID, int]) -> None:
        """Listen to a message, keep it or throw it away, at the server that answers for it."""
        if not self.taken:
            return
        accepted = rng.choice(self.taken[-200:])
        message = accepted.message
        if acted[message.message_id] == len(USERS):
            return
        user = USERS[acted[message.message_id]]
        acted[message.message_id] += 1
        for server in dict.fromkeys((message.home, accepted.call.server, *SERVERS)):
            client = clients[server][user]
            path = f"/v1/mailboxes/{accepted.call.extension}/messages/{message.message_id}"
            shown = client.get(path)
            self._judge(shown, {200, 404}, f"message {message.message_id} at {server}")
            if shown.status_code != 200:
                continue
            status = shown.json()["status"]
            if not self._act(client, server, path, accepted, status, rng, user):
                continue
            return

    def _act(
        self,
        client,
        server: str,
        path: str,
        accepted: AcceptedCall,
        status: str,
        rng: random.Random,
        user: str,
    ) -> bool:
        """Do one thing; False when this server does not answer for the message any more."""
        if rng.random() < 0.3 and status != "deleted":
            self._listen(client, path, accepted)
        action = "restored" if status == "deleted" else rng.choice(("heard", "saved", "deleted"))
        answer = client.patch(path, json={"status": action})
        self._judge(answer, {200, 404, 409}, f"{action} of {accepted.message.message_id}")
        if answer.status_code != 200:
            return False
        self.tally.count("deeds done")
        # What changes nothing is not recorded: an unanswered deed may have been done before.
        if action == "heard" or answer.json()["status"] != status:
            message_id, extension = accepted.message.message_id, accepted.call.extension
            told = Done(self.now_s, server, extension, accepted.call_id, message_id, user)
            if action == "heard" or user == USERS[0]:
                self.told.actions.append(told)
        return True

    def _listen(self, client, path: str, accepted: AcceptedCall) -> None:
        answer = client.get(f"{path}/audio", headers={"Accept": "audio/wav"})
        self._judge(answer, {200, 404}, f"the sound of {accepted.message.message_id}")
        if answer.status_code == 200:
            self.tally.count("messages listened to")
            if answer.content != accepted.call.audio:
                self.broken(f"another sound was played for {accepted.message.message_id}")

    def _greet(self, clients, rng: random.Random) -> None:
        extension = rng.choice(SETTLED[::8] + NOMADS)
        call = PlacedCall("", extension, UUID(int=rng.getrandbits(128)), 1500)
        for server in SERVERS:
            answer = clients[server]["operator"].put(
                f"/v1/mailboxes/{extension}/greetings/unavailable",
                content=call.audio,
                headers={"Content-Type": "audio/wav"},
            )
            self._judge(answer, {200, 409}, f"a greeting at {server}")
            if answer.status_code == 200:
                self.tally.count("greetings recorded")
                return

    def _change_pin(self, clients, rng: random.Random) -> None:
        extension, pin = rng.choice(SETTLED[::8] + NOMADS), rng.choice(PINS)
        for server in SERVERS:
            path = f"/v1/mailboxes/{extension}/pin"
            answer = clients[server]["operator"].put(path, json={"pin": pin})
            self._judge(answer, {204, 409}, f"a PIN at {server}")
            if answer.status_code == 204:
                self.tally.count("PINs chosen")
                return

    def _move(self, clients, rng: random.Random) -> None:
        extension, to = rng.choice(NOMADS), rng.choice(SERVERS)
        for server in SERVERS:
            # Noted before the answer: a server that dies meanwhile may have done it.
            self.told.moves.append((extension, to))
            path = f"/v1/mailboxes/{extension}/rehome"
            answer = clients[server]["operator"].post(path, json={"to": to})
            self._judge(answer, {202, 409}, f"a move at {server}")
            if answer.status_code == 202:
                self.tally.count("mailboxes moved")
                return

    def _port(self, server: str) -> int:
        return int(self._cluster.servers[server].url.rpartition(":")[2])

    def _client(self, port: int, server: str, user: str) -> httpx.Client:
        token = self._cluster.tokens[server][user]
        return httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=20,
            verify=_NO_TLS,
        )


def _spoken(audio: bytes, lasts_s: float) -> Iterator[bytes]:
    """Give the sound in pieces, over so long a time."""
    size = 2048 if lasts_s else len(audio)
    pieces = [audio[start : start + size] for start in range(0, len(audio), size)]
    for piece in pieces:
        yield piece
        time.sleep(lasts_s / len(pieces))
