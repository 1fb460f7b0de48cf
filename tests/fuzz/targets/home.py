"""A whole home that is sent batches: rightly sealed, and wrong in any other way.

An input is a JSON list of batches, in which ``"$blob0"`` stands for the digest of the batch's first
recording, ``"$size0"`` for its size, ``"$audio0"`` and ``"$length0"`` for what it holds; the
recordings are the last part of each batch. The home answers each batch with a word of the protocol.
When it takes a batch in, all of it is there that it did not refuse, and every message of it plays;
when it does not, nothing has changed. And with what it took in, it starts again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from typing import Any
from uuid import UUID

import msgspec

from ledger.events import (
    GreetingRecorded,
    MailboxOpened,
    MailboxRehomed,
    MessageDelivered,
    MessageHeard,
    MessageRequeued,
    MessageStored,
    PinChanged,
    decode,
)
from ledger.ids import MailboxAddress, mailbox_stream_id
from ledger.key_transport import open_keys, seal_keys, way_of
from ledger.migration.audience import SENDS
from ledger.migration.home import Receiver
from ledger.migration.known_homes import load_homes
from ledger.migration.link import Route
from ledger.migration.wire import Accepted, Batch, Busy, ContactRequest, Gap, Rejected
from ledger.migration.wire_bytes import decode_answer, decode_batch, encode_request
from ledger.pin import ScryptCost, make_verifier
from ledger.sealing import KEY_BYTES, MessageKey
from ledger.storage import stored_form
from ledger.storage.event_log import LogEntry
from ledger.storage.sealed_form import is_sealed, read_key_id
from ledger.storage.sealed_form import seal as seal_form
from ledger.storage.sealed_recording import decode_sealed, open_recording
from tests.fuzz.documents import read_list
from tests.fuzz.frames import seal
from tests.fuzz.servers import receiver_of
from tests.fuzz.target import Target
from tests.fuzz.values import FACTS, NOW
from tests.simulation.loop import VirtualLoop
from tests.simulation.sounds import is_sound_of
from tests.support.sites import Site, eventually, make_sites, quiet
from tests.support.sites import run as run_sites

METADATA = stored_form.RecordingMetadata(call_id=UUID(int=7), server="alpha", started_at=NOW)
CONTACT = ContactRequest(
    origin="alpha", home="bravo", incarnation=UUID(int=1), position=0, nonce="n"
)
"""After which all batches are sent."""
BRAVO = make_sites()["bravo"].identity
"""For which keys are sealed."""
_MOST_BATCHES = 4
_MOST_RECORDING_BYTES = 1 << 20

# --- What alpha really sends ----------------------------------------------------------------------


def seeds() -> list[bytes]:
    stories = (_calls, _heard_while_pending, _profile, _rehomed_with_its_messages)
    return [json.dumps([_document(batch) for batch in _sent(story)]).encode() for story in stories]


def _sent(story) -> list[Batch]:
    """Give the batches that bravo got from alpha while this happened there."""
    batches: list[Batch] = []

    async def note(route: Route, body: bytes) -> bytes:
        if route is Route.BATCH:
            batches.append(decode_batch(body, "alpha"))
        return body

    async def main() -> None:
        sites = make_sites()
        for site in sites.values():
            await site.start()
        sites["alpha"].links["bravo"].before = note
        await story(sites["alpha"], sites["bravo"])
        await quiet(60)

    run_sites(main())
    return batches[:_MOST_BATCHES]


async def _calls(alpha: Site, bravo: Site) -> None:
    await alpha.take_call("2001", b"one")
    await quiet()
    await alpha.take_call("2002", b"two")
    await alpha.take_call("2001", b"three")


async def _heard_while_pending(alpha: Site, bravo: Site) -> None:
    link = alpha.links["bravo"]
    link.is_cut = True
    message = await alpha.take_call("2001")
    await alpha.log.append_events([_heard(message, 4)])
    link.is_cut = False
    await eventually(lambda: len(link.seen) > 2)
    await alpha.log.append_events([_heard(message, 6)])


def _heard(message: MessageStored, version: int) -> MessageHeard:
    return MessageHeard(
        originator_id=message.originator_id,
        originator_version=version,
        recorded_at=NOW,
        recorded_by="alpha",
        message_id=message.message_id,
        by="user",
    )


async def _profile(alpha: Site, bravo: Site) -> None:
    verifier = make_verifier("2580", lambda size: b"s" * size, ScryptCost(n=2, r=1))
    greeting, pin = (_kept(alpha, received) for received in (b"hello", verifier))
    common = await _mailbox(alpha, "1001")
    facts = msgspec.structs.replace(
        FACTS, digest=hashlib.sha256(b"hello").hexdigest(), size_bytes=5, container="raw"
    )
    await alpha.log.append_events(
        [
            MailboxOpened(**common, originator_version=1),
            GreetingRecorded(
                **common,
                originator_version=2,
                kind="unavailable",
                blob=greeting[0],
                blob_size_bytes=greeting[1],
                audio=facts,
            ),
            PinChanged(
                **common,
                originator_version=3,
                verifier=pin[0],
                verifier_size_bytes=pin[1],
                by="1001",
            ),
        ]
    )


async def _rehomed_with_its_messages(alpha: Site, bravo: Site) -> None:
    await bravo.take_call("1001", b"at home at alpha")
    await eventually(lambda: alpha.of_kind(MessageDelivered))
    common = await _mailbox(alpha, "1001")
    await alpha.log.append_events(
        [
            MailboxRehomed(
                **common,
                originator_version=1,
                from_home="alpha",
                to_home="bravo",
                epoch=2,
                by="ann",
                is_forced=False,
            )
        ]
    )


async def _mailbox(alpha: Site, extension: str) -> dict[str, Any]:
    """What all events of a mailbox at home at alpha have in common."""
    incarnation = (await alpha.log.head()).incarnation
    return {
        "originator_id": mailbox_stream_id(MailboxAddress(extension), "alpha", incarnation),
        "recorded_at": NOW,
        "recorded_by": "alpha",
        "mailbox": f"{extension}@default",
    }


def _kept(site: Site, received: bytes) -> tuple[str, int]:
    stored = stored_form.encode(received, METADATA)
    digest = hashlib.sha256(stored).hexdigest()
    site.disk.blobs.put(digest, stored)
    return digest, len(stored)


def _document(batch: Batch) -> dict[str, Any]:
    """Write a batch with placeholders for what is computed from its recordings."""
    header = msgspec.json.decode(msgspec.json.encode(batch.header))
    del header["blobs"]
    keys = _keys_of(batch)
    header["keys"] = [[str(k.key_id), base64.b64encode(k.secret).decode()] for k in keys]
    text, recordings = json.dumps(header), []
    for number, (digest, stored) in enumerate(batch.blobs.items()):
        recording, audio_digest = _recording(stored, batch)
        recordings.append(recording)
        text = text.replace(digest, f"$blob{number}")
        text = text.replace(audio_digest, f"$audio{number}")
        for key in ("blob_size_bytes", "verifier_size_bytes"):
            text = text.replace(f'"{key}": {len(stored)}', f'"{key}": "$size{number}"')
    return json.loads(text) | {"recordings": recordings, "contact": CONTACT.nonce}


def _recording(stored: bytes, batch: Batch) -> tuple[Any, str]:
    """Give a recording for a document, and what stands in events for its sound."""
    if not is_sealed(stored):
        received = stored_form.decode(stored)
        return received.decode("latin-1"), hashlib.sha256(received).hexdigest()
    call_id = read_key_id(stored)
    [key] = [key for key in _keys_of(batch) if key.key_id == call_id]
    received = decode_sealed(stored, key)
    sealed = {"call": str(call_id), "heard": received.decode("latin-1")}
    return sealed, key.keyed_digest(hashlib.sha256(received).hexdigest())


def _keys_of(batch: Batch) -> list[MessageKey]:
    return open_keys(batch.header.keys, BRAVO.private_key, way_of("alpha", "bravo"))


# --- What the home makes of it --------------------------------------------------------------------


def run(data: bytes) -> bool:
    documents = read_list(data)
    if documents is None:
        return False
    bodies = [_body(one) for one in documents[:_MOST_BATCHES] if isinstance(one, dict)]
    return VirtualLoop().run(_send_all(bodies))


def _body(document: dict[str, Any]) -> bytes:
    """Give the bytes of a batch."""
    given = document.get("recordings")
    recordings = given if isinstance(given, list) else []
    header = {key: value for key, value in document.items() if key != "recordings"}
    keys = header.get("keys")
    if isinstance(keys, list):
        read = [_key_of(one[0], keys) for one in keys if isinstance(one, list) and one]
        header["keys"] = _sealed([key for key in read if key is not None])
    text = json.dumps(header, separators=(",", ":"))
    blobs = []
    for number, recording in enumerate(recordings):
        stored, audio_digest = _stored(recording, keys)
        blobs.append(stored)
        text = text.replace(f"$blob{number}", hashlib.sha256(stored).hexdigest())
        text = text.replace(f"$audio{number}", audio_digest)
        text = text.replace(f'"$size{number}"', str(len(stored)))
    if "blobs" not in header:
        entries = [[hashlib.sha256(blob).hexdigest(), len(blob)] for blob in blobs]
        text = f'{text[:-1]}{"," if header else ""}"blobs":{json.dumps(entries)}}}'
    return seal("b", text.encode()) + b"".join(blobs)


def _sealed(keys: list[MessageKey]) -> str:
    """Seal keys as alpha does; the same each time."""
    to_bravo = (BRAVO.public_key, way_of("alpha", "bravo"))
    return base64.b64encode(seal_keys(keys, *to_bravo, lambda size: b"o" * size)).decode()


def _stored(recording: Any, keys: Any) -> tuple[bytes, str]:
    """Make the stored form of a recording, sealed if the document says so and has the key."""
    said = recording if isinstance(recording, dict) else {"heard": recording}
    received = str(said.get("heard")).encode("latin-1", "replace")
    stored, digest = stored_form.encode(received, METADATA), hashlib.sha256(received).hexdigest()
    key = _key_of(said.get("call"), keys)
    if key is None:
        return stored, digest
    return seal_form(stored, key, lambda size: b"r" * size), key.keyed_digest(digest)


def _key_of(call: Any, keys: Any) -> MessageKey | None:
    for one in keys if isinstance(keys, list) else ():
        with contextlib.suppress(ValueError, TypeError):
            if isinstance(one, list) and len(one) == 2 and one[0] == call:
                secret = base64.b64decode(one[1], validate=True)
                return MessageKey(UUID(str(call)), secret) if len(secret) == KEY_BYTES else None
    return None


async def _send_all(bodies: list[bytes]) -> bool:
    bravo = make_sites()["bravo"]
    receiver = receiver_of(bravo)
    await receiver.handle("alpha", Route.CONTACT, encode_request(CONTACT))
    answers = [await _send(bravo, receiver, body) for body in bodies]
    load_homes(bravo.disk.recorder, bravo.directory)  # as at the next start
    return any(isinstance(answer, Accepted) and not answer.refusals for answer in answers)


async def _send(bravo: Site, receiver: Receiver, body: bytes) -> Any:
    before = bravo.disk.recorder.head()
    answer = decode_answer(await receiver.handle("alpha", Route.BATCH, body), "bravo")
    after = bravo.disk.recorder.head()
    new = bravo.disk.recorder.read(before.position + 1, 1000)
    if isinstance(answer, Accepted):
        _check_taken_in(bravo, decode_batch(body, "alpha"), answer, new)
    else:
        assert isinstance(answer, Busy | Gap | Rejected)
        assert (before, new) == (after, [])
    return answer


def _check_taken_in(bravo: Site, batch: Batch, answer: Accepted, new: list[LogEntry]) -> None:
    """Every message that was not refused is delivered; what is new came from alpha byte for byte.

    (What is only told of a message that is not here, or twice in different words, is passed over.)
    """
    header, recorder = batch.header, bravo.disk.recorder
    tracked = {row.incarnation: row.position for row in recorder.tracked("alpha")}
    assert tracked[header.incarnation] >= header.through_position
    assert answer.receipt.origin_position == tracked[header.incarnation]
    own = [decode(entry.plain) for entry in recorder.read(1, 100_000) if entry.origin is None]
    delivered = {event.message_id for event in own if isinstance(event, MessageDelivered)}
    refused = {refusal.position for refusal in answer.refusals}
    for parcel in header.parcels:
        last = decode(bytes(parcel.events[-1].plain)) if parcel.position not in refused else None
        assert not isinstance(last, SENDS) or last.message_id in delivered
    sent = {bytes(event.plain) for parcel in header.parcels for event in parcel.events}
    for entry in new:
        event = decode(entry.plain)
        if entry.origin is not None:
            assert (entry.origin, entry.plain in sent) == ("alpha", True)
        elif isinstance(event, MessageDelivered):
            _check_plays(bravo, event)
        else:
            assert isinstance(event, MessageRequeued), event


def _check_plays(bravo: Site, delivered: MessageDelivered) -> None:
    """The message that was delivered is told of and has its sound, here."""
    told = [decode(entry.plain) for entry in bravo.disk.recorder.read(1, 100_000)]
    [stored] = [
        event
        for event in told
        if isinstance(event, MessageStored) and event.message_id == delivered.message_id
    ]
    location = bravo.disk.recorder.locate_blobs([stored.blob]).get(stored.blob)
    vault = bravo.make_vault()
    received = open_recording(
        bravo.disk.blobs.get(stored.blob, location), vault.key, max_bytes=_MOST_RECORDING_BYTES
    )
    assert is_sound_of(stored, received, vault)


TARGET = Target(run, seeds, is_document=True, max_bytes=32_768, words=("$blob0", "$audio0"))
