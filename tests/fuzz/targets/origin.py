"""A whole origin that gets any answers from a home, or what claims to be one.

An input is a JSON list of answers, given in order to whatever the origin asks. In them ``"$nonce"``
stands for the question's, ``"$incarnation"``, ``"$position"`` and ``"$root"`` for what the origin
said last of its log, and ``"$sign"`` for the home's own signature: a home that lies is tried, too.
A text is given back as bytes. Behind the last answer the home is honest.

Whatever it was told, the worker never fails in a way that nobody foresaw; a message counts as
arrived only by a receipt that the home signed; its sound stays; and in the end each message has
arrived or is held for the operator with a reason.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec

from ledger.errors import TransientError
from ledger.events import MessageMigrated, MigrationRefused, Receipt
from ledger.migration.link import Route
from ledger.migration.receipts import sign_receipt, verify_receipt
from ledger.migration.wire_bytes import decode_answer, decode_batch, decode_request
from tests.fuzz.documents import read_list
from tests.fuzz.frames import seal
from tests.fuzz.loops import Unexpected
from tests.fuzz.target import Target
from tests.support.sites import Site, make_sites
from tests.support.sites import run as run_sites

MESSAGES = ("2001", "2002")
_MOST_ANSWERS = 20
_SETTLED_WITHIN_S = 200_000.0
"""A home may ask for a day's pause."""
FAILURES = Unexpected("ledger.migration.origin", "worker-failed")


class ScriptedLink:
    """The way to a home that says what a script says, and then is honest."""

    def __init__(self, home: Site, script: list[Any]) -> None:
        self.peer = home.id
        self.given: list[bytes] = []
        self._home = home
        self._script = script
        self._last: dict[str, Any] = {"nonce": "", "position": 0, "incarnation": "", "root": ""}

    async def exchange(self, route: Route, body: bytes) -> bytes:
        self._note(route, body)
        if not self._script:
            self.given.append(await self._home.receiver.handle("alpha", route, body))
            return self.given[-1]
        answer = self._script.pop(0)
        if answer is None:
            raise TransientError("no answer came")
        if isinstance(answer, str):
            return answer.encode("latin-1", "replace")
        return seal("a", json.dumps(self._filled(answer)).encode())

    async def probe(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _note(self, route: Route, body: bytes) -> None:
        if route is Route.BATCH:
            header = decode_batch(body, "alpha").header
            said = {"position": header.through_position, "root": header.through_root}
        elif route is Route.CONTACT:
            request = decode_request(body, "alpha")
            said = {"nonce": request.nonce, "incarnation": str(request.incarnation)}
        else:
            said = {}
        self._last |= said

    def _filled(self, answer: Any) -> Any:
        """Put what the placeholders stand for in their places."""
        if isinstance(answer, dict):
            filled = {key: self._filled(value) for key, value in answer.items()}
            return self._signed(filled) if filled.get("signature") == "$sign" else filled
        if isinstance(answer, list):
            return [self._filled(value) for value in answer]
        if isinstance(answer, str) and answer.startswith("$"):
            return self._last.get(answer[1:], answer)
        return answer

    def _signed(self, receipt: dict[str, Any]) -> Any:
        try:
            read = msgspec.convert(receipt | {"home": self.peer}, Receipt)
        except msgspec.ValidationError:
            return receipt
        return msgspec.to_builtins(sign_receipt(read, self._home.identity))


def seeds() -> list[bytes]:
    """What an honest home says, with placeholders; and each other answer that there is."""
    given = [_plain(answer) for answer in _honest_answers()]
    row = {"incarnation": "$incarnation", "position": 9, "root": "ab" * 32, "seen_s_ago": 1}
    contact = next(answer for answer in given if answer["type"] == "contact")
    scripts = [
        given,
        [contact | {"tracked": [row]}],
        [*given[:1], {"type": "gap", "tracked": []}, {"type": "busy", "retry_after_s": 2}],
        [*given[:1], *[{"type": "rejected", "reason": "no"}] * 3, None, "VMLa"],
        [{"type": "refused-version", "versions": [2]}, {"type": "missing", "digests": []}],
        [*given[:1], _refusing(next(answer for answer in given if answer["type"] == "accepted"))],
    ]
    return [json.dumps(script).encode() for script in scripts]


def _honest_answers() -> list[Any]:
    link = run_sites(_ship([]))
    return [decode_answer(body, "bravo") for body in link.given[:6]]


def _plain(answer: Any) -> Any:
    """Write an answer with placeholders."""
    plain = msgspec.json.decode(msgspec.json.encode(answer))
    if plain["type"] == "contact":
        plain["nonce"] = "$nonce"
    for part in (*plain.get("tracked", ()), plain.get("receipt") or {}):
        if "incarnation" in part:
            part["incarnation"] = "$incarnation"
        if "signature" in part:
            part |= {"signature": "$sign", "origin_incarnation": "$incarnation"}
            part |= {"origin_position": "$position", "origin_root": "$root"}
    return plain


def _refusing(accepted: Any) -> Any:
    reason = {"reason": "not-my-mailbox", "detail": "so it said", "new_home": "charlie"}
    return accepted | {"refusals": [{"position": 3} | reason]}


def run(data: bytes) -> bool:
    script = read_list(data)
    if script is None:
        return False
    run_sites(_ship(script[:_MOST_ANSWERS]))
    return True


async def _ship(script: list[Any]) -> ScriptedLink:
    """Take some calls, ship them over such a link, and look at what was recorded."""
    sites = make_sites()
    alpha, bravo = sites.values()
    bravo.links["alpha"].is_cut = True
    link = ScriptedLink(bravo, script)
    alpha.links["bravo"] = link
    await bravo.start()
    await alpha.start()
    messages = [await alpha.take_call(extension) for extension in MESSAGES]
    FAILURES.raise_any()
    ids = {message.message_id for message in messages}
    await _settled(alpha, ids)
    FAILURES.raise_any()
    for event in alpha.of_kind(MessageMigrated):
        verify_receipt(event.receipt, bravo.identity.public_key)
    for message in messages:
        alpha.audio_of(message)
    return link


async def _settled(alpha: Site, ids: set[Any]) -> None:
    """Wait until each message has arrived or is held; seldom look after a long time."""
    pause_s, waited_s = 0.1, 0.0
    while not ids <= _told_of(alpha):
        assert waited_s < _SETTLED_WITHIN_S, "a message is stuck"
        await asyncio.sleep(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * 1.5, 300.0)


def _told_of(alpha: Site) -> set[Any]:
    return {
        event.message_id
        for kind in (MessageMigrated, MigrationRefused)
        for event in alpha.of_kind(kind)
    }


TARGET = Target(run, seeds, is_document=True, max_bytes=16_384, words=("$nonce", "$sign", "$root"))
