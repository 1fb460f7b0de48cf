"""Record a message: from the first byte that the switch hands over to "message stored".

The order of the durable steps is the promise. While bytes arrive they go to a spool file, synced
once a second. The finished spool file is linked into the blob store before the event that names it
is committed, and leaves the spool only after that; so a crash at any line leaves either a spool
that `recover_recordings` turns into a message at the next start, or a message.

Source: claims 1, 3 (store in the first server), 4 (send to the second), 10 and 11.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

import msgspec

from ledger.audio.errors import AudioError
from ledger.audio.probe import AudioLimits, probe
from ledger.call import CallState, set_recording_aside, store_message
from ledger.call import Recording as StoredRecording
from ledger.errors import CallerError, ConflictError, TransientError
from ledger.events import AudioFacts, MessageDelivered, MessageStored, Stamp
from ledger.ids import MailboxAddress, message_id_of, message_stream_id
from ledger.sealing import MessageKey
from ledger.server.parts import ServerParts
from ledger.server.streams import Events, change_call, load_call
from ledger.storage.spool import FinishedRecording, Recording
from ledger.storage.stored_form import RecordingMetadata
from ledger.telephony.switch import StoredMessage

_BUSY_RETRY_S: Final = 1.0


class TooLargeError(CallerError):
    """The recording is longer than this server takes. What was received is set aside."""


class SpooledAudio(Protocol):
    """A whole stored form in the spool: just finished, or left by an earlier run."""

    @property
    def path(self) -> Path:
        """Its file."""

    @property
    def blob_digest(self) -> str:
        """SHA-256 of the file."""

    @property
    def blob_size_bytes(self) -> int:
        """Length of the file."""

    @property
    def received_digest(self) -> str:
        """SHA-256 of the received bytes."""

    @property
    def received_bytes_count(self) -> int:
        """Number of received bytes."""

    @property
    def key(self) -> MessageKey | None:
        """What it is sealed with; None: it is not."""


async def record_message(
    parts: ServerParts, call_id: UUID, audio: AsyncIterator[bytes], content_type: str | None
) -> StoredMessage:
    """Take a call's recording; on return the message is durable here, or already at its home.

    Raises NotFoundError for an unknown call, ConflictError for one that takes no recording,
    AudioError or TooLargeError for audio that cannot be a message (it is set aside and an event
    says where), TransientError when the disk is full or the call is being recorded right now.
    When the bytes stop coming before their end (the switch died), what arrived stays in the spool
    and becomes a recovered message, unless the switch repeats its request first.
    """
    state = await load_call(parts.log, call_id)
    limits = _limits(parts, _mailbox_for(state))
    metadata = RecordingMetadata(
        call_id=call_id,
        server=parts.config.server,
        started_at=parts.clock.now(),
        content_type=content_type,
    )
    key = await _find_key(parts, call_id)
    recording = await _open_recording(parts, metadata, key)
    try:
        await _expect_not_erased(parts, call_id)
        is_whole = await _receive(parts, recording, audio)
        finished = await parts.offload(recording.finish)
        if not is_whole:
            raise await _too_large(parts, call_id, finished)
        facts = await _understand(parts, call_id, finished, content_type, limits)
        message = await keep_message(parts, call_id, finished, facts, is_recovered=False)
    finally:
        # Of a recording that did not become a message, the file stays: it is recovered later.
        recording.close()
    patience_s = _patience_s(parts, state)
    return await _deliver(parts, message, finished.received_digest, patience_s)


def _patience_s(parts: ServerParts, state: CallState) -> float:
    """How long the caller waits for the home: not at all for one that was judged away."""
    is_away = state.decision is not None and state.decision.is_reachable is False
    return 0.0 if is_away else parts.config.replication.deadline_s


async def keep_message(
    parts: ServerParts,
    call_id: UUID,
    spooled: SpooledAudio,
    facts: AudioFacts,
    *,
    is_recovered: bool,
) -> MessageStored:
    """Make a finished spool file the call's message: blob, then events, then the spool is freed.

    Gives the message as it stands in the log, also when it already stood there.
    """
    facts = msgspec.structs.replace(facts, digest=_digest_of(spooled))
    # A crash before this line's sync leaves the spool file; after it, also an orphan blob.
    await parts.blob_offload(partial(parts.blobs.put_file, spooled.blob_digest, spooled.path))
    recording = StoredRecording(
        message_id=message_id_of(parts.config.server, call_id, facts.digest),
        blob=spooled.blob_digest,
        blob_size_bytes=spooled.blob_size_bytes,
        audio=facts,
        is_sealed=spooled.key is not None,
        is_recovered=is_recovered,
    )
    stamp = Stamp(at=parts.clock.now(), by=parts.config.server)
    # A crash after this commit leaves the message and a spool file that the next start removes.
    state, events = await change_call(
        parts.log, call_id, lambda state: _message_events(state, recording, stamp)
    )
    await parts.offload(partial(parts.spool.discard, spooled.path))
    stored = next((e for e in events if isinstance(e, MessageStored)), None)
    return stored or _known(state, facts)


def _digest_of(spooled: SpooledAudio) -> str:
    """Give what stands in events for the received bytes."""
    digest = spooled.received_digest
    return digest if spooled.key is None else spooled.key.keyed_digest(digest)


def _known(state: CallState, facts: AudioFacts) -> MessageStored:
    return next(m for m in state.messages if m.audio.digest == facts.digest)


def _message_events(state: CallState, recording: StoredRecording, stamp: Stamp) -> Events:
    """A message at its own home is delivered by the same commit that stores it (claim 3)."""
    stored = store_message(state, recording, stamp)
    if stored is None:
        return ()
    if stored.home != stamp.by:
        return (stored,)
    delivered = MessageDelivered(
        originator_id=message_stream_id(stored.message_id, stamp.by),
        originator_version=1,
        recorded_at=stamp.at,
        recorded_by=stamp.by,
        message_id=stored.message_id,
        call_id=state.id,
        mailbox=stored.mailbox,
        origin=stamp.by,
        origin_position=0,
    )
    return (stored, delivered)


def _mailbox_for(state: CallState) -> MailboxAddress:
    if state.decision is None or state.decision.mailbox is None:
        raise ConflictError(
            f"call {state.id} is handled normally and takes no recording; "
            "report a call for voicemail first"
        )
    return MailboxAddress.parse(state.decision.mailbox)


def _limits(parts: ServerParts, mailbox: MailboxAddress) -> AudioLimits:
    calls = parts.config.calls_for(mailbox)
    return AudioLimits(
        min_duration_ms=round(calls.min_message_duration_s * 1000),
        max_duration_ms=round(calls.max_message_duration_s * 1000),
    )


async def _find_key(parts: ServerParts, call_id: UUID) -> MessageKey | None:
    """Give the call's key; None for a call from before there were keys."""
    found = await parts.offload(lambda: parts.vault.keys([call_id]))
    if call_id not in found:
        return None
    if found[call_id] is None:
        raise _erased(call_id)
    return found[call_id]


async def _expect_not_erased(parts: ServerParts, call_id: UUID) -> None:
    """Look once more, now that nobody can erase the call before it has its message."""
    key = (await parts.log.read_keys([call_id])).get(call_id)
    if key is not None and key.wrapped is None:
        raise _erased(call_id)


def _erased(call_id: UUID) -> ConflictError:
    return ConflictError(
        f"call {call_id} was erased and takes no recording; report a new call for a new message"
    )


async def _open_recording(
    parts: ServerParts, metadata: RecordingMetadata, key: MessageKey | None
) -> Recording:
    try:
        return await parts.offload(partial(parts.spool.open, metadata.call_id, metadata, key))
    except ConflictError as error:
        # A switch whose connection broke comes back before this side has noticed: soon it works.
        raise TransientError(error.message, retry_after_s=_BUSY_RETRY_S) from error


async def _receive(parts: ServerParts, recording: Recording, audio: AsyncIterator[bytes]) -> bool:
    """Write what arrives to the spool; False when it is more than this server takes."""
    async for chunk in audio:
        await parts.offload(partial(recording.append, chunk))
        if recording.received_bytes_count > parts.config.calls.max_upload_bytes:
            return False
    return True


async def _too_large(
    parts: ServerParts, call_id: UUID, finished: FinishedRecording
) -> TooLargeError:
    limit_bytes = parts.config.calls.max_upload_bytes
    reason = f"the recording is larger than the {limit_bytes} bytes that this server takes"
    place = await set_aside(parts, call_id, finished, reason)
    return TooLargeError(f"{reason}; what arrived is kept in {place}")


async def _understand(
    parts: ServerParts,
    call_id: UUID,
    finished: FinishedRecording,
    content_type: str | None,
    limits: AudioLimits,
) -> AudioFacts:
    """Find out what the recording is; set it aside when it cannot be a message."""
    # The limit was kept while it was received; the last piece may have gone beyond it.
    max_bytes = finished.received_bytes_count
    try:
        return await parts.offload(
            lambda: probe(finished.read(max_bytes), content_type, limits=limits)
        )
    except AudioError as error:
        error.place = await set_aside(parts, call_id, finished, str(error))
        raise


async def set_aside(parts: ServerParts, call_id: UUID, spooled: SpooledAudio, reason: str) -> str:
    """Keep the bytes for a person, durably, and record where; gives the place."""
    kept = await parts.offload(partial(parts.spool.set_aside, spooled.path, reason))
    data = parts.config.data
    place = str(kept.relative_to(data) if kept.is_relative_to(data) else kept)
    stamp = Stamp(at=parts.clock.now(), by=parts.config.server)
    await change_call(
        parts.log,
        call_id,
        lambda state: (
            set_recording_aside(
                state,
                digest=_digest_of(spooled),
                size_bytes=spooled.received_bytes_count,
                is_sealed=spooled.key is not None,
                reason=reason,
                place=place,
                stamp=stamp,
            ),
        ),
    )
    return place


async def _deliver(
    parts: ServerParts, message: MessageStored, received_digest: str, patience_s: float
) -> StoredMessage:
    """Send a message for an available home at once (claim 4); else it waits here (claim 3)."""
    is_remote = message.home != parts.config.server
    is_at_home = not is_remote or await parts.deliveries.deliver_now(
        message.message_id, message.home, patience_s
    )
    return StoredMessage(
        message_id=message.message_id,
        call_id=message.originator_id,
        mailbox=message.mailbox,
        home=message.home,
        digest=received_digest,
        duration_ms=message.audio.duration_ms,
        custody=message.home if is_at_home else parts.config.server,
        is_pending=not is_at_home,
        is_recovered=message.is_recovered,
        stored_at=message.recorded_at,
    )
