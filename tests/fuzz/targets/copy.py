"""A mirror that gets any answers from the origin whose log it copies, or what claims to be one.

An input is a JSON list of answers, given in order to whatever the mirror asks. In them ``"$after"``
stands for the position asked about, ``"$asked"`` for the blobs asked for, ``"$incarnation"`` for
that of the log, and ``"$size"``, ``"$root"`` and ``"$proof"`` for what fits the events that the
script tells; ``"$sign"`` is the checkpoint by the origin's own key, over whatever its answer says:
an origin that signs lies is tried, too. A text is given back as bytes. Behind the last answer the
origin is honest.

Whatever it was told, the mirror fails only in the documented ways; at every commit the copy is byte
for byte a beginning of a log that was signed; and in the end it is the honest log, with every blob
and a checkpoint that fits. What it had copied of another history is set aside as it was.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from ledger.checkpoint import Checkpoint, log_name, sign_checkpoint
from ledger.errors import TransientError
from ledger.events import MessageMigrated
from ledger.migration.blob_fetch import complete
from ledger.migration.link import PeerClient, Route
from ledger.migration.log_reading import own_word, read_blobs, read_page, read_state
from ledger.migration.log_source import LogTarget, PeerSource
from ledger.migration.mirroring import Mirror
from ledger.migration.wire import Blobs, BlobsRequest, LogPageRequest, LogState, LogStateRequest
from ledger.migration.wire_bytes import (
    decode_answer,
    decode_blobs,
    decode_request,
    encode_answer,
    encode_blobs,
)
from ledger.storage.cosigned_checkpoints import MemoryCosignedCheckpoints
from ledger.storage.event_log import Append, LogRecorder
from ledger.storage.log_copy import CheckpointFile
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.memory_blobs import MemoryBlobStore
from ledger.storage.merkle import Frontier, leaf_hash
from ledger.storage.merkle_proofs import consistency_proof
from ledger.storage.recorder import Plan
from tests.fuzz.documents import read_list
from tests.fuzz.frames import seal
from tests.fuzz.loops import Unexpected
from tests.fuzz.target import Target
from tests.fuzz.values import NOW
from tests.simulation.disk import Disk, VirtualFiles
from tests.support.sites import InPlace, Site, VirtualClock, eventually, make_sites
from tests.support.sites import run as run_sites
from vmledger.blob_needs import needed_blobs

_MOST_ANSWERS = 20
_PAGE = 4
"""Events in a page of the honest origin, so that there are several."""
_SETTLED_WITHIN_S = 200_000.0
"""An origin may ask for a day's pause."""
_KEEP_FOR = timedelta(days=90)
FAILURES = Unexpected("ledger.migration.mirroring", "mirroring-failed")


@functools.cache
def origin() -> Site:
    """A server with calls of its own and from a peer in its log; it does nothing more."""

    async def main() -> Site:
        sites = make_sites()
        for site in sites.values():
            await site.start()
        alpha, bravo = sites.values()
        await alpha.take_call("1001", b"at home", home="alpha")
        await alpha.take_call("2001", b"for bravo")
        await bravo.take_call("1002", b"from bravo")
        await eventually(lambda: alpha.of_kind(MessageMigrated) and alpha.delivered())
        return alpha

    return run_sites(main())


@functools.cache
def honest() -> tuple[bytes, ...]:
    """The events of the honest log."""
    return tuple(entry.plain for entry in origin().disk.recorder.read(1, 1000))


class CheckedRecorder(MemoryLogRecorder):
    """A copy that looks at itself whenever something was committed."""

    def __init__(self, origin: ScriptedOrigin) -> None:
        super().__init__(UUID(int=77))
        self._origin = origin

    def _transact(self, appends: Sequence[Append]) -> Plan:
        result = super()._transact(appends)
        held = tuple(entry.plain for entry in self.image.entries)
        assert any(held == log[: len(held)] for log in self._origin.signed)
        return result


@dataclass
class Copy:
    """A copy in memory."""

    name: str
    recorder: CheckedRecorder
    checkpoint: CheckpointFile
    blobs: MemoryBlobStore = field(default_factory=MemoryBlobStore)
    cosigned: MemoryCosignedCheckpoints = field(default_factory=MemoryCosignedCheckpoints)


class Shelf:
    """The copies that a mirror keeps of the one log."""

    def __init__(self, origin: ScriptedOrigin) -> None:
        self._files = VirtualFiles(Disk(random.Random(1)), lambda: 0.0)
        self._origin = origin
        self.kept: list[Copy] = []
        self._begin()

    def current(self, _of: str) -> Copy:
        return self.kept[-1]

    def copies(self, _of: str) -> list[Copy]:
        return self.kept

    def set_aside(self, _of: str, _at: Any) -> Path:
        self._begin()
        return Path("/aside")

    def _begin(self) -> None:
        name = str(len(self.kept))
        self._files.make_directory(Path("/") / name)
        recorder = CheckedRecorder(self._origin)
        self.kept.append(Copy(name, recorder, CheckpointFile(Path("/") / name, self._files)))


class ScriptedOrigin:
    """The way to an origin that says what a script says, and then is honest."""

    peer = "alpha"

    def __init__(self, script: list[Any]) -> None:
        self.given: list[tuple[Route, bytes]] = []
        self.signed: list[tuple[bytes, ...]] = [honest()]
        """Logs that the origin signed an end of."""
        self._script = script
        self._told = _told(script) or honest()
        self._site = origin()

    @property
    def is_honest(self) -> bool:
        return not self._script

    async def exchange(self, route: Route, body: bytes) -> bytes:
        await asyncio.sleep(0.001)
        request = decode_request(body, "bravo")
        if not self._script:
            self.given.append((route, self._honest(request)))
            return self.given[-1][1]
        answer = self._script.pop(0)
        if answer is None:
            raise TransientError("no answer came")
        if isinstance(answer, str):
            return answer.encode("latin-1", "replace")
        filled = self._filled(answer, request)
        if isinstance(filled, dict) and filled.get("type") == "blobs":
            return _blobs(filled)
        return seal("a", _json(filled))

    async def probe(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _honest(self, request: Any) -> bytes:
        disk, vouch = self._site.disk, own_word(self._site.identity)
        match request:
            case LogStateRequest():
                return encode_answer(LogState(copies=(read_state(disk.recorder, "", vouch),)))
            case LogPageRequest():
                stop = min(request.through_position, request.after_position + _PAGE)
                request = LogPageRequest(
                    of=request.of,
                    after_position=request.after_position,
                    after_root=request.after_root,
                    through_position=stop,
                    tree_size=request.tree_size,
                )
                return encode_answer(
                    read_page(
                        disk.recorder, request, vouch, origins=["bravo"], cosigned=disk.checkpoints
                    )
                )
            case _:
                assert isinstance(request, BlobsRequest)
                return encode_blobs(read_blobs(request.digests, [(disk.recorder, disk.blobs)]))

    def _filled(self, answer: Any, request: Any) -> Any:
        """Put what the placeholders stand for in their places; the signature last."""
        known: dict[str, Any] = {
            "$after": getattr(request, "after_position", 0),
            "$asked": list(getattr(request, "digests", ())),
            "$incarnation": str(self._site.disk.recorder.head().incarnation),
            "$size": len(self._told),
        }
        if isinstance(answer, dict) and answer.get("type") == "log-page":
            through = known["$after"] + len(_events(answer))
            known |= {"$through": through, "$root": _root(self._told[:through]).hex()}
            known["$proof"] = _proof(self._told, through)
        else:
            known["$root"] = _root(self._told).hex()
        return self._signed(_put(answer, known))

    def _signed(self, node: Any) -> Any:
        """Sign what a state of the log, or a page, says of itself."""
        if isinstance(node, list):
            return [self._signed(value) for value in node]
        if not isinstance(node, dict):
            return node
        node = {key: self._signed(value) for key, value in node.items()}
        if node.get("checkpoint") == "$sign":
            node["checkpoint"] = self._checkpoint(node)
        return node

    def _checkpoint(self, node: dict[str, Any]) -> str:
        head = self._site.disk.recorder.head()
        position = node.get("position", node.get("through_position"))
        try:
            incarnation = UUID(node.get("incarnation", str(head.incarnation)))
            root = bytes.fromhex(node["root"])
            said = Checkpoint(log_name("alpha", incarnation), int(position), root)
            text = sign_checkpoint(said, self._site.identity).to_text()
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
            return "$sign"
        if root == _root(self._told[: max(0, said.size)]):
            self.signed.append(self._told[: said.size])
        return text


def _told(script: list[Any]) -> tuple[bytes, ...]:
    """Give the log that the pages of a script tell together."""
    pages = [one for one in script if isinstance(one, dict) and one.get("type") == "log-page"]
    return tuple(_json(event[0]) for page in pages for event in _events(page))


def _events(page: dict[str, Any]) -> list[Any]:
    events = page.get("events")
    some = events if isinstance(events, list) else []
    return [event for event in some if isinstance(event, list) and event]


def _put(node: Any, known: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _put(value, known) for key, value in node.items()}
    if isinstance(node, list):
        return [_put(value, known) for value in node]
    return known.get(node, node) if isinstance(node, str) else node


def _blobs(answer: dict[str, Any]) -> bytes:
    """Give the answer that carries blobs: those of the origin by digest, others as they are."""
    given = answer.pop("give", None)
    texts = [str(one) for one in given] if isinstance(given, list) else []
    held = origin().disk
    found = read_blobs(texts, [(held.recorder, held.blobs)]).blobs
    data = [found.get(text, text.encode("latin-1", "replace")) for text in texts]
    rows = [[hashlib.sha256(one).hexdigest(), len(one)] for one in data]
    return seal("d", _json({"blobs": rows} | answer)) + b"".join(data)


def _json(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _root(plains: Sequence[bytes]) -> bytes:
    return Frontier().append(map(leaf_hash, plains)).root()


def _proof(plains: Sequence[bytes], old_size: int) -> list[str]:
    if old_size > len(plains):
        return []
    log = MemoryLogRecorder()
    log.image.entries = [_Entry(plain) for plain in plains]  # type: ignore[misc]
    return [digest.hex() for digest in consistency_proof(old_size, len(plains), log.read_hashes)]


@dataclass(frozen=True)
class _Entry:
    """As much of an entry as a tree needs."""

    plain: bytes


# --- What the mirror makes of it ------------------------------------------------------------------


def seeds() -> list[bytes]:
    """What an honest origin says, with placeholders; and other things that one can say."""
    state, *rest = [_document(route, body) for route, body in _honest_answers()]
    pages = [one for one in rest if one["type"] == "log-page"]
    foreign = next(event for page in pages for event in page["events"] if event[1] is not None)
    twice = pages[0] | {"events": [*[pages[0]["events"][0]] * 2, foreign]}
    nowhere = pages[0] | {"events": [[event, None, None] for event, *_ in pages[-1]["events"]]}
    row = {"origin": "bravo", "incarnation": "$incarnation", "position": 9, "root": "ab" * 32}
    cosigned = {"log": "x/log/alpha/1", "witness": "bravo", "size": 9, "note": "no note"}
    scripts = [
        [state, *rest],
        [state, *[{"type": "blobs", "give": [], "absent": "$asked"} if _is_blobs(one) else one
                  for one in rest]],
        [state, twice],
        [state, nowhere],
        [state, pages[0] | {"origins": [row, row], "cosigned": [cosigned]}],
        [state | {"copies": []}, {"type": "busy", "retry_after_s": 2}, None, "VMLa"],
        [state, pages[0] | {"is_other_history": True}, {"type": "rejected", "reason": "no"}],
    ]  # fmt: skip
    return [_json(script) for script in scripts]


def _is_blobs(answer: dict[str, Any]) -> bool:
    return answer["type"] == "blobs"


def _honest_answers() -> list[tuple[Route, bytes]]:
    honest()  # has a loop of its own
    return run_sites(_copy([])).given[:8]


def _document(route: Route, body: bytes) -> dict[str, Any]:
    """Write an honest answer with placeholders."""
    if route is Route.BLOBS:
        blobs = decode_blobs(body, "alpha")
        assert isinstance(blobs, Blobs)
        return {"type": "blobs", "give": list(blobs.blobs), "absent": list(blobs.absent)}
    plain = msgspec.json.decode(msgspec.json.encode(decode_answer(body, "alpha")))
    if route is Route.LOG_STATE:
        said = {"position": "$size", "root": "$root", "checkpoint": "$sign"}
        plain["copies"] = [plain["copies"][0] | {"incarnation": "$incarnation"} | said]
        return plain
    said = {"after_position": "$after", "through_position": "$through", "root": "$root"}
    return plain | said | {"proof": "$proof", "checkpoint": "$sign"}


def run(data: bytes) -> bool:
    script = read_list(data)
    if script is None:
        return False
    honest()  # has a loop of its own
    run_sites(_copy(script[:_MOST_ANSWERS]))
    return True


async def _copy(script: list[Any]) -> ScriptedOrigin:
    """Mirror over such a link until all is there, and look at what is there."""
    link, offload = ScriptedOrigin(script), InPlace()
    source, shelf = PeerSource(PeerClient(link), offload), Shelf(link)
    key = origin().identity.public_key
    mirror = Mirror(
        source, "alpha", key, shelf=shelf, needed=_needed, clock=VirtualClock(), offload=offload
    )
    task = asyncio.create_task(mirror.run())
    try:
        await _settled(link, shelf)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    copy = shelf.current("alpha")
    target = LogTarget(
        of="alpha",
        public_key=key,
        recorder=copy.recorder,
        blobs=copy.blobs,
        cosigned=copy.cosigned,
        checkpoint=copy.checkpoint,
    )
    needed = sorted(_needed(copy.recorder, "alpha"))
    assert await complete(source, target, needed, offload) == []
    located = copy.recorder.locate_blobs(needed)
    for digest in needed:
        held = copy.blobs.get(digest, located.get(digest))
        assert hashlib.sha256(held).hexdigest() == digest
    for one in shelf.kept:
        for digest, kept in one.blobs.loose.items():
            assert hashlib.sha256(kept[0]).hexdigest() == digest
    return link


def _needed(recorder: LogRecorder, of: str) -> set[str]:
    return needed_blobs(recorder, of, _KEEP_FOR, NOW)


async def _settled(link: ScriptedOrigin, shelf: Shelf) -> None:
    """Wait until the copy is the honest log; seldom look after a long time."""
    end = origin().disk.recorder.head()
    pause_s, waited_s = 0.1, 0.0
    while True:
        FAILURES.raise_any()
        copy = shelf.current("alpha")
        head = copy.recorder.head()
        if link.is_honest and head == end and copy.checkpoint.read(head) is not None:
            return
        assert waited_s < _SETTLED_WITHIN_S, "the copy is stuck"
        await asyncio.sleep(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * 1.5, 300.0)


TARGET = Target(
    run, seeds, is_document=True, max_bytes=32_768, words=("$asked", "$sign", "$root", "$proof")
)
