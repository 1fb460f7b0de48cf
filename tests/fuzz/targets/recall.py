"""A server whose log went back, and that gets any answers when it asks for what it has forgotten.

An input is a JSON list of answers, given in order to its questions ``recall`` and ``blob``. In them
``"$after"`` stands for the position asked about, ``"$end"`` for the peer's last one,
``"$incarnation"`` for that of its log, and ``"$blob"`` for the blob that was asked for;
``"$digest0"`` is the digest of the data in the first answer that brings some as text. A text is
given back as bytes. Behind the last answer the peer is honest, as it is to all other questions.

Whatever it was told, the server goes on asking until it is through; it takes only what it recorded
itself, each stream without a gap; of each message it then tells of, it has the sound; nothing else
of it fails; and with what it took it starts again.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import random
from typing import Any
from uuid import UUID

import msgspec

from ledger.errors import TransientError
from ledger.events import (
    GreetingRecorded,
    LogRecalled,
    MessageMigrated,
    MessageStored,
    PinChanged,
    decode,
)
from ledger.ids import MailboxAddress, mailbox_stream_id
from ledger.migration.known_homes import load_homes
from ledger.migration.link import Route
from ledger.migration.wire import BlobAnswer, RecallAnswer
from ledger.migration.wire_bytes import decode_answer, decode_request
from ledger.pin import ScryptCost, make_verifier
from ledger.storage import stored_form
from tests.fuzz.documents import read_list
from tests.fuzz.frames import seal
from tests.fuzz.loops import Unexpected
from tests.fuzz.target import Target
from tests.fuzz.values import FACTS, NOW
from tests.support.sites import Disk, Site, eventually, make_sites, quiet
from tests.support.sites import run as run_sites

METADATA = stored_form.RecordingMetadata(call_id=UUID(int=7), server="alpha", started_at=NOW)
_MOST_ANSWERS = 20
_SETTLED_WITHIN_S = 200_000.0
"""A peer may ask for a day's pause."""
FAILURES = Unexpected("ledger.migration.origin", "worker-failed")


@functools.cache
def disks() -> tuple[Disk, Disk]:
    """What alpha has of old, and what bravo has now."""

    async def main() -> tuple[Disk, Disk]:
        sites = make_sites()
        for site in sites.values():
            await site.start()
        alpha, bravo = sites.values()
        await alpha.take_call("2001", b"kept")
        await eventually(lambda: alpha.of_kind(MessageMigrated))
        backup = alpha.disk.copy()
        await alpha.take_call("2001", b"forgotten")
        await alpha.take_call("2002", b"forgotten, too")
        await _change_profile(alpha)
        await eventually(lambda: bravo.of_kind(PinChanged) and len(bravo.delivered()) == 3)
        return backup, bravo.disk.copy()

    return run_sites(main())


async def _change_profile(alpha: Site) -> None:
    """Record a greeting and choose a PIN."""
    sound = stored_form.encode(b"hello", METADATA)
    checked_by = make_verifier("2580", lambda size: b"s" * size, ScryptCost(n=2, r=1))
    verifier = stored_form.encode(checked_by, METADATA)
    for data in (sound, verifier):
        alpha.disk.blobs.put(hashlib.sha256(data).hexdigest(), data)
    incarnation = (await alpha.log.head()).incarnation
    common: dict[str, Any] = {
        "originator_id": mailbox_stream_id(MailboxAddress("1001"), "alpha", incarnation),
        "recorded_at": alpha.clock.now(),
        "recorded_by": "alpha",
        "mailbox": "1001@default",
    }
    facts = msgspec.structs.replace(
        FACTS, digest=hashlib.sha256(b"hello").hexdigest(), size_bytes=5, container="raw"
    )
    greeting = GreetingRecorded(
        **common,
        originator_version=1,
        kind="unavailable",
        blob=hashlib.sha256(sound).hexdigest(),
        blob_size_bytes=len(sound),
        audio=facts,
    )
    pin = PinChanged(
        **common,
        originator_version=2,
        verifier=hashlib.sha256(verifier).hexdigest(),
        verifier_size_bytes=len(verifier),
        by="1001",
    )
    await alpha.log.append_events([greeting, pin])


class Script:
    """Stands in the way from alpha to bravo, and answers some questions in bravo's place."""

    def __init__(self, answers: list[Any], bravo: Site) -> None:
        self.given: list[Any] = []
        """The honest answers that came through."""
        self._answers = answers
        self._digests = _digests(answers)
        self._head = bravo.disk.recorder.head()
        self._after = 0

    @property
    def is_over(self) -> bool:
        return not self._answers

    async def before(self, route: Route, body: bytes) -> bytes:
        if route is Route.RECALL:
            self._after = decode_request(body, "alpha").after_position
        return body

    async def after(self, route: Route, honest: bytes) -> bytes:
        if route not in (Route.RECALL, Route.BLOB):
            return honest
        if not self._answers:
            self.given.append(decode_answer(honest, "bravo"))
            return honest
        answer = self._answers.pop(0)
        if answer is None:
            raise TransientError("no answer came")
        if isinstance(answer, str):
            return answer.encode("latin-1", "replace")
        return seal("a", _json(self._filled(answer, honest)))

    def _filled(self, answer: Any, honest: bytes) -> Any:
        told = decode_answer(honest, "bravo")
        data = told.data if isinstance(told, BlobAnswer) else None
        known = self._digests | {
            "$after": self._after,
            "$end": self._head.position,
            "$incarnation": str(self._head.incarnation),
            "$blob": base64.b64encode(data).decode() if data is not None else None,
        }
        return _put(answer, known)


def _digests(answers: list[Any]) -> dict[str, str]:
    """Give the digests of the blobs that a script brings itself."""
    texts = [one.get("data") for one in answers if isinstance(one, dict)]
    found: dict[str, str] = {}
    for text in texts:
        if isinstance(text, str) and not text.startswith("$"):
            try:
                data = base64.b64decode(text, validate=True)
            except ValueError:
                continue
            found[f"$digest{len(found)}"] = hashlib.sha256(data).hexdigest()
    return found


def _put(node: Any, known: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _put(value, known) for key, value in node.items()}
    if isinstance(node, list):
        return [_put(value, known) for value in node]
    return known.get(node, node) if isinstance(node, str) else node


def _json(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def seeds() -> list[bytes]:
    """What an honest peer says, with placeholders; and other things that one can say."""
    disks()  # has a loop of its own
    given = run_sites(_recall([])).given
    recalled, *others = [_document(answer) for answer in given]
    assert len(given) > 3
    half = len(recalled["events"]) // 2
    first = recalled | {"events": recalled["events"][:half], "through_position": 2}
    first["is_last"] = False
    own = json.dumps(recalled["events"]).replace(_first_blob(recalled), "$digest0")
    forged = recalled | {"events": json.loads(own)}
    scripts = [
        [recalled, *others],
        [first, *others, recalled, *others],
        [recalled, *[{"type": "blob", "data": None}] * 4],
        [forged, {"type": "blob", "data": base64.b64encode(b"anything").decode()}],
        [recalled, {"type": "blob", "data": "AAAA"}, {"type": "busy", "retry_after_s": 2}, None],
        [{"type": "rejected", "reason": "no"}, "VMLa", recalled | {"events": []}],
    ]
    return [_json(script) for script in scripts]


def _document(answer: Any) -> dict[str, Any]:
    """Write an answer with placeholders."""
    if isinstance(answer, BlobAnswer):
        return {"type": "blob", "data": "$blob"}
    assert isinstance(answer, RecallAnswer)
    said = {"incarnation": "$incarnation", "after_position": "$after", "through_position": "$end"}
    return msgspec.json.decode(msgspec.json.encode(answer)) | said


def _first_blob(recalled: dict[str, Any]) -> str:
    return next(event["blob"] for _, event in recalled["events"] if "blob" in event)


def run(data: bytes) -> bool:
    script = read_list(data)
    if script is None:
        return False
    disks()  # has a loop of its own
    run_sites(_recall(script[:_MOST_ANSWERS]))
    return True


async def _recall(answers: list[Any]) -> Script:
    """Start alpha as it was of old beside bravo as it is now, and look at what alpha took."""
    sites = make_sites()
    alpha, bravo = sites.values()
    for site, disk in zip((alpha, bravo), disks(), strict=True):
        site.disk = disk.copy()
        site.rng = random.Random(f"{site.id} again")  # no id is made twice
    script = Script(answers, bravo)
    link = alpha.links["bravo"]
    link.before, link.after = script.before, script.after
    await bravo.start()
    await alpha.start()
    await _settled(alpha)
    await quiet(5)
    _expect_alive(alpha)
    _check_taken(alpha)
    load_homes(alpha.disk.recorder, alpha.directory)  # as at the next start
    return script


async def _settled(alpha: Site) -> None:
    """Wait until alpha has asked to the end; seldom look after a long time."""
    pause_s, waited_s = 0.1, 0.0
    while not any(event.is_complete for event in alpha.of_kind(LogRecalled)):
        _expect_alive(alpha)
        assert waited_s < _SETTLED_WITHIN_S, "it never comes to the end"
        await asyncio.sleep(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * 1.5, 300.0)


def _expect_alive(alpha: Site) -> None:
    """None of the server's tasks has ended by itself."""
    FAILURES.raise_any()
    for task in alpha.deliveries._tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error


def _check_taken(alpha: Site) -> None:
    streams: dict[Any, list[int]] = {}
    for entry in alpha.disk.recorder.read(1, 100_000):
        event = decode(entry.plain)
        assert (entry.origin, event.recorded_by) == (None, "alpha"), event
        streams.setdefault(entry.originator_id, []).append(entry.originator_version)
        if isinstance(event, MessageStored):
            location = alpha.disk.recorder.locate_blobs([event.blob]).get(event.blob)
            held = alpha.disk.blobs.get(event.blob, location)
            assert hashlib.sha256(held).hexdigest() == event.blob
    assert all(versions == list(range(1, len(versions) + 1)) for versions in streams.values())


TARGET = Target(
    run, seeds, is_document=True, max_bytes=32_768, words=("$after", "$end", "$blob", "$digest0")
)
