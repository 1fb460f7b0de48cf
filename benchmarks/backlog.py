"""A backlog of messages that wait for their home, made quickly: for benchmarks of shipping.

The messages go through the product's own log and blob store, sealed with keys of their own, only
without the calls' HTTP requests: what `vmledger serve` then finds is what it would find after an
outage.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec

from benchmarks.sample_events import call_with_message
from ledger.caller import seal_caller
from ledger.configuration import load_configuration
from ledger.events import AudioFacts, Caller, DomainEvent, MessageStored
from ledger.sealing import MessageKey, WrappedKey, new_message_key
from ledger.storage.blob_store import NewBlob
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.open_recorder import open_recorder
from ledger.storage.sealed_form import seal
from ledger.storage.stored_form import RecordingMetadata, encode
from vmledger.stores import open_vault

MESSAGES_A_COMMIT = 100


def fill(
    config_file: Path,
    home: str,
    extension: str,
    messages: int,
    size_bytes: int,
    *,
    in_packs: bool = False,
) -> None:
    """Let a server that does not run hold this many messages for another one.

    ``in_packs``: their sounds lie in packs, as if they had come from peers.
    """
    config = load_configuration(config_file)
    recorder = open_recorder(config.stores.events)
    blobs = open_blob_store(config.stores.blobs)
    vault = open_vault(config, recorder)
    rng = random.Random(messages * size_bytes)
    try:
        waiting: list[DomainEvent] = []
        sounds: list[NewBlob] = []
        keys: list[WrappedKey] = []
        for number in range(1, messages + 1):
            key, events, stored = _message(rng, config.server, home, extension, size_bytes)
            keys.append(vault.wrap(key))
            sounds.append(NewBlob(hashlib.sha256(stored).hexdigest(), stored))
            if not in_packs:
                blobs.put(sounds.pop().digest, stored)
            waiting += events
            if number % MESSAGES_A_COMMIT == 0 or number == messages:
                locations = blobs.put_pack(sounds)
                events_stored = [to_stored_event(event) for event in waiting]
                append = Append(events_stored, blob_locations=locations, keys=list(keys))
                recorder.group.append(append)
                waiting.clear()
                keys.clear()
                sounds.clear()
    finally:
        recorder.close()


def _message(
    rng: random.Random, server: str, home: str, extension: str, size_bytes: int
) -> tuple[MessageKey, list[DomainEvent], bytes]:
    received, decided, message, *_ = call_with_message(
        rng, server=server, home=home, extension=extension
    )
    assert isinstance(message, MessageStored)
    key = new_message_key(received.originator_id, rng.randbytes)
    sealed_caller = seal_caller(Caller(number="+4930901820"), key, rng.randbytes)
    received = msgspec.structs.replace(received, personal=sealed_caller)
    # Random codes do not compress, like most real telephone audio.
    audio = rng.randbytes(size_bytes)
    metadata = RecordingMetadata(
        call_id=UUID(str(received.originator_id)),
        server=server,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        content_type="audio/PCMU",
    )
    stored = seal(encode(audio, metadata), key, rng.randbytes)
    facts = AudioFacts(
        digest=key.keyed_digest(hashlib.sha256(audio).hexdigest()),
        size_bytes=len(audio),
        container="raw",
        codec="pcmu",
        sample_rate_hz=8000,
        channels=1,
        duration_ms=len(audio) // 8,
    )
    whole = MessageStored(
        originator_id=message.originator_id,
        originator_version=message.originator_version,
        recorded_at=message.recorded_at,
        recorded_by=server,
        message_id=message.message_id,
        mailbox=message.mailbox,
        home=home,
        blob=hashlib.sha256(stored).hexdigest(),
        blob_size_bytes=len(stored),
        is_sealed=True,
        audio=facts,
    )
    return key, [received, decided, whole], stored


def blob_files(config_file: Path) -> Iterator[Path]:
    """Give the files of a server's blob store."""
    folder = Path(load_configuration(config_file).stores.blobs.removeprefix("file://"))
    return (path for path in folder.rglob("*") if path.is_file())
