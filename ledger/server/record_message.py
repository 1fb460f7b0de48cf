"""Record a message: from the first byte that the switch hands over to "message stored".

The order of the durable steps is the promise. While bytes arrive they go to a spool file, synced
once a second. The finished spool file gets its second name, in the blob store, before the event
that names it is committed, and leaves the spool only after that. So a crash at any line leaves
either a spool file that the next start makes a message of, or a message.

Source: claims 1, 3 (store in the first server), 4 (send to the second), 10 and 11.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from ledger.audio.errors import AudioError
from ledger.audio.probe import AudioLimits, probe
from ledger.call import CallState, set_recording_aside, store_message
from ledger.call import Recording as DurableRecording
from ledger.errors import CallerError, ConflictError, TransientError
from ledger.events import AudioFacts, MessageDelivered, MessageStored, Stamp
from ledger.ids import MailboxAddress
from ledger.server.parts import ServerParts
from ledger.server.requests import StoredMessage
from ledger.server.streams import Events, change_call, load_call
from ledger.storage.spool import FinishedRecording, Recording
from ledger.storage.stored_form import RecordingMetadata


class TooLargeError(CallerError):
    """The recording is larger than this server takes. What was received is set aside."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A spool file that is whole and durable: on its way to be a message, or set aside."""

    path: Path
    blob_digest: str
    blob_size_bytes: int
    received_digest: str
    received_size_bytes: int

    @classmethod
    def of(cls, finished: FinishedRecording) -> Spooled:
        """Take a recording that has just ended."""
        return cls(
            path=finished.path,
            blob_digest=finished.blob_digest,
            blob_size_bytes=finished.blob_size_bytes,
            received_digest=finished.received_digest,
            received_size_bytes=finished.received_bytes_count,
        )


async def record_message(
    parts: ServerParts, call_id: UUID, audio: AsyncIterator[bytes], content_type: str | None
) -> StoredMessage:
    """Take a call's recording; on return the message is durable here, or already at its home.

    Raises NotFoundError for an unknown call, ConflictError for one that takes no recording or is
    being recorded, AudioError or TooLargeError for audio that cannot be a message (it is set aside
    and an event says where), TransientError when the disk is full. When the bytes stop coming
    before their end (the switch died), what arrived stays in the spool and becomes a recovered
    message, unless the switch repeats its request first.
    """
    state = await load_call(parts.log, call_id)
    expect_voicemail(state)
    recording = await _open(parts, call_id, content_type)
    try:
        message = await _record(parts, state, recording, audio, content_type)
    except (AudioError, TooLargeError):
        raise  # it is set aside already
    except BaseException:
        # The caller was told nothing; what arrived waits for the switch's next try.
        recording.close()
        parts.left_over[call_id] = parts.clock.monotonic_s()
        raise
    return await _deliver(parts, message)


async def _record(
    parts: ServerParts,
    state: CallState,
    recording: Recording,
    audio: AsyncIterator[bytes],
    content_type: str | None,
) -> MessageStored:
    await _receive(parts, state, recording, audio)
    finished = await parts.offload(recording.finish)
    facts = await _understand(parts, state, finished, content_type)
    return await keep_message(parts, state.id, Spooled.of(finished), facts, is_recovered=False)


async def keep_message(
    parts: ServerParts, call_id: UUID, spooled: Spooled, facts: AudioFacts, *, is_recovered: bool
) -> MessageStored:
    """Make a spool file the call's message: blob, then events, then the spool is freed.

    Gives the message as it stands in the log, also when it already stood there.
    """
    # A crash before this ends leaves the spool file, perhaps also a blob that nothing names.
    await parts.offload(partial(parts.blobs.put_file, spooled.blob_digest, spooled.path))
    recording = DurableRecording(
        message_id=parts.new_id(),
        blob=spooled.blob_digest,
        blob_size_bytes=spooled.blob_size_bytes,
        audio=facts,
        is_recovered=is_recovered,
    )
    stamp = Stamp(at=parts.clock.now(), by=parts.config.server)
    # A crash after this commit leaves the message, and a spool file that the next start removes.
    state, events = await change_call(
        parts.log, call_id, lambda state: _message_events(state, recording, stamp)
    )
    await parts.offload(partial(parts.spool.discard, spooled.path))
    stored = next((e for e in events if isinstance(e, MessageStored)), None)
    return stored or next(m for m in state.messages if m.audio.digest == facts.digest)


def _message_events(state: CallState, recording: DurableRecording, stamp: Stamp) -> Events:
    """A message at its own home is delivered by the same commit that stores it (claim 3)."""
    stored = store_message(state, recording, stamp)
    if stored is None:
        return ()
    if stored.home != stamp.by:
        return (stored,)
    delivered = MessageDelivered(
        originator_id=stored.message_id,
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


def expect_voicemail(state: CallState) -> None:
    """Raise ConflictError for a call that is handled normally."""
    if state.decision is None or not state.decision.to_voicemail:
        raise ConflictError(
            f"call {state.id} is handled normally and takes no recording; "
            "report a call for voicemail first"
        )


async def _open(parts: ServerParts, call_id: UUID, content_type: str | None) -> Recording:
    """Open the spool file; what an interrupted upload of this call left is kept for a person."""
    metadata = RecordingMetadata(
        call_id=call_id,
        server=parts.config.server,
        started_at=parts.clock.now(),
        content_type=content_type,
    )
    if parts.left_over.pop(call_id, None) is not None:
        path = parts.spool.path_of(call_id)
        reason = "the switch sent the recording again"
        await parts.offload(partial(parts.spool.set_aside, path, reason))
    return await parts.offload(partial(parts.spool.open, call_id, metadata))


async def _receive(
    parts: ServerParts, state: CallState, recording: Recording, audio: AsyncIterator[bytes]
) -> None:
    limit_bytes = parts.config.calls.max_upload_bytes
    async for chunk in audio:
        await parts.offload(partial(recording.append, chunk))
        if recording.received_bytes_count > limit_bytes:
            finished = await parts.offload(recording.finish)
            reason = f"the recording is larger than the {limit_bytes} bytes that this server takes"
            place = await set_aside(parts, state.id, Spooled.of(finished), reason)
            raise TooLargeError(f"{reason}; what arrived is kept in {place}")


async def _understand(
    parts: ServerParts, state: CallState, finished: FinishedRecording, content_type: str | None
) -> AudioFacts:
    """Find out what the recording is; set it aside when it cannot be a message."""
    assert state.decision is not None
    limits = limits_for(parts, state.decision.mailbox)

    def look() -> AudioFacts:
        received = finished.read(parts.config.calls.max_upload_bytes)
        return probe(received, content_type, limits=limits)

    try:
        return await parts.offload(look)
    except AudioError as error:
        place = await set_aside(parts, state.id, Spooled.of(finished), str(error))
        error.place = place
        raise


def limits_for(parts: ServerParts, mailbox: str | None) -> AudioLimits:
    """Give the limits on a message's length that hold for its mailbox."""
    calls = parts.config.calls
    if mailbox is not None:
        calls = parts.config.calls_for(MailboxAddress.parse(mailbox))
    return AudioLimits(
        min_duration_ms=int(calls.min_message_duration_s * 1000),
        max_duration_ms=int(calls.max_message_duration_s * 1000),
    )


async def set_aside(parts: ServerParts, call_id: UUID, spooled: Spooled, reason: str) -> str:
    """Keep the bytes for a person, durably, and record where; gives the place."""
    place = str(await parts.offload(partial(parts.spool.set_aside, spooled.path, reason)))
    stamp = Stamp(at=parts.clock.now(), by=parts.config.server)
    await change_call(
        parts.log,
        call_id,
        lambda state: (
            set_recording_aside(
                state,
                digest=spooled.received_digest,
                size_bytes=spooled.received_size_bytes,
                reason=reason,
                place=place,
                stamp=stamp,
            ),
        ),
    )
    return place


async def _deliver(parts: ServerParts, message: MessageStored) -> StoredMessage:
    """Send a message for an available home at once (claim 4); else it waits here (claim 3)."""
    is_remote = message.home != parts.config.server
    is_at_home = not is_remote or await _is_delivered(parts, message)
    return StoredMessage(
        message_id=message.message_id,
        call_id=message.originator_id,
        mailbox=message.mailbox,
        home=message.home,
        digest=message.audio.digest,
        duration_ms=message.audio.duration_ms,
        custody=message.home if is_at_home else parts.config.server,
        is_pending=not is_at_home,
        is_recovered=message.is_recovered,
        stored_at=message.recorded_at,
    )


async def _is_delivered(parts: ServerParts, message: MessageStored) -> bool:
    try:
        return await parts.deliveries.deliver_now(
            message.message_id, message.home, parts.config.replication.deadline_s
        )
    except TransientError:
        # The message is safe here, and is shipped by itself: the caller is told so.
        return False
