"""The demonstration's story: what happens to the three servers, step by step.

The story only does things and waits for what must follow by itself; `evidence` then asks the
servers what they hold.

Source: claims 1-5, 7 and 8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

from ledger.events import CallStatus
from vmledger.cli.calls import hand_over
from vmledger.demo.narrator import Narrator
from vmledger.demo.processes import DemoError, Servers, is_gone, message_at, wait_until

DELIVERY_DEADLINE_S: Final = 40.0

ALPHA, BRAVO, CHARLIE = "alpha", "bravo", "charlie"
EXTENSIONS: Final = {ALPHA: ["1000-1999"], BRAVO: ["2000-2999"], CHARLIE: ["3000-3999"]}


@dataclass(frozen=True)
class TakenMessage:
    """What the switch was told when it had handed over a recording."""

    origin: str
    digest_sent: str
    size_bytes: int
    answer: dict[str, Any]

    @property
    def id(self) -> str:
        """The message."""
        return str(self.answer["message_id"])

    @property
    def home(self) -> str:
        """Where it belongs."""
        return str(self.answer["home"])

    @property
    def is_held(self) -> bool:
        """Did it have to wait where it landed?"""
        return bool(self.answer["is_pending"])


@dataclass
class Story:
    """Plays the demonstration with three running servers."""

    servers: Servers
    narrator: Narrator
    taken: list[TakenMessage] = field(default_factory=list)
    pending_while_down: int = 0

    def tell(self) -> None:
        """Play all of it; raises DemoError where something that must happen does not."""
        self.normal_day()
        self.bravo_dies()
        self.calls_while_it_is_dead()
        self.bravo_returns()

    def normal_day(self) -> None:
        """A call for another server, one for the server itself, one for nobody's voicemail."""
        say = self.narrator
        say.step("A call for 2001 lands at alpha. Its mailbox lives at bravo, which is up.")
        self._leave_message(ALPHA, "2001", CallStatus.NO_ANSWER)
        say.step("A call for 1001 lands at alpha, its own home.")
        self._leave_message(ALPHA, "1001", CallStatus.BUSY)
        say.step("A call for 2002 is answered at charlie: voicemail has nothing to do.")
        decision = self._report(CHARLIE, "2002", CallStatus.ANSWERED)
        if decision["transfer"]:
            raise DemoError("an answered call was sent to voicemail")
        say.result(f"handled normally ({decision['reason']})")

    def bravo_dies(self) -> None:
        """Bravo is killed as by a power cut."""
        self.narrator.step("Bravo is killed (SIGKILL: it can save nothing, warn nobody).")
        bravo = self.servers[BRAVO]
        bravo.kill()
        if not is_gone(bravo):
            raise DemoError("bravo still answers after it was killed")
        self.narrator.result("bravo answers no more")

    def calls_while_it_is_dead(self) -> None:
        """Calls for bravo land at the others, and one more call for a living home."""
        say = self.narrator
        say.step("Calls for bravo's extensions keep landing, at alpha and at charlie.")
        for origin, extension in ((ALPHA, "2001"), (CHARLIE, "2001"), (ALPHA, "2002")):
            self._leave_message(origin, extension, CallStatus.NO_ANSWER)
        say.step("What waits for bravo, says each server.")
        for server_id in (ALPHA, CHARLIE):
            self.pending_while_down += self._wait_for_pending(server_id)
        say.step("Meanwhile a call for 3001 lands at alpha; its home charlie is up.")
        self._leave_message(ALPHA, "3001", CallStatus.UNREACHABLE)

    def bravo_returns(self) -> None:
        """Bravo starts again; nobody tells anybody anything."""
        say = self.narrator
        say.step("Bravo is started again, on what the kill left on its disk.")
        bravo = self.servers[BRAVO]
        bravo.start()
        bravo.wait_until_ready()
        say.result("bravo is up; now we only wait")
        for message in self.taken:
            self._wait_for_delivery(message)
        for server_id in (ALPHA, CHARLIE):
            self._wait_for_nothing_pending(server_id)
        arrived = sum(message.is_held for message in self.taken)
        say.result(f"{arrived} messages came home by themselves; nothing waits any more")

    def _report(self, origin: str, extension: str, status: CallStatus) -> dict[str, Any]:
        report = {
            "called_extension": extension,
            "status": status.value,
            "caller_number": f"+1555010{len(self.taken)}",
        }
        decision: dict[str, Any] = self.servers[origin].api.send("POST", "/v1/calls", report)
        return decision

    def _leave_message(self, origin: str, extension: str, status: CallStatus) -> None:
        decision = self._report(origin, extension, status)
        if not decision["transfer"]:
            raise DemoError(f"{origin} did not send a call for {extension} to voicemail")
        speech = _speech()
        audio = speech[len(self.taken) % len(speech)]
        sound = audio.read_bytes()
        answer = hand_over(self.servers[origin].api, decision["call_id"], audio, "audio/wav")
        message = TakenMessage(origin, hashlib.sha256(sound).hexdigest(), len(sound), answer)
        self.taken.append(message)
        self.narrator.result(_describe(message))

    def _wait_for_pending(self, server_id: str) -> int:
        """Wait until the read side has what was written, then believe what it says."""
        held = sum(m.is_held and m.origin == server_id for m in self.taken)
        wait_until(
            lambda: self._pending(server_id) >= held,
            DELIVERY_DEADLINE_S,
            lambda: f"{server_id} shows {self._pending(server_id)} pending messages, not {held}",
        )
        count = self._pending(server_id)
        self.narrator.result(f"{server_id}: {count} pending")
        return count

    def _pending(self, server_id: str) -> int:
        answer = self.servers[server_id].api.get("/v1/pending")
        return sum(int(home["count"]) for home in answer["homes"] if home["home"] == BRAVO)

    def _wait_for_nothing_pending(self, server_id: str) -> None:
        wait_until(
            lambda: self._pending(server_id) == 0,
            DELIVERY_DEADLINE_S,
            lambda: f"{server_id} still shows {self._pending(server_id)} messages for bravo",
        )

    def _wait_for_delivery(self, message: TakenMessage) -> None:
        home = self.servers[message.home]
        wait_until(
            lambda: (message_at(home, message.id) or {}).get("delivered_at") is not None,
            DELIVERY_DEADLINE_S,
            lambda: f"message {message.id} did not arrive at {message.home}",
        )


def _describe(message: TakenMessage) -> str:
    start = f"message {message.id[-12:]} ({message.size_bytes} bytes of speech)"
    if message.is_held:
        return f"{start}: on disk at {message.origin}, waits there for {message.home}"
    if message.origin == message.home:
        return f"{start}: on disk at {message.origin}, its home"
    return f"{start}: taken at {message.origin}, on disk at its home {message.home}"


def _speech() -> Sequence[Path]:
    """Give the recordings of real speech that the program carries."""
    folder = resources.files("vmledger") / "speech"
    found = sorted(Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".wav"))
    if not found:
        raise DemoError("the program's recordings of speech are missing; install it again")
    return found
