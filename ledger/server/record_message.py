"""Record a message: from the first byte that the switch hands over to "message stored".

The order of the durable steps is the promise. While bytes arrive they go to a spool file, synced
once a second. The finished spool file is linked into the blob store before the event that names it
is committed, and leaves the spool only after that; so a crash at any line leaves either a spool
that `recover_recordings` turns into a message at the next start, or a message.

Source: claims 1, 3 (store in the first server), 4 (send to the second), 10 and 11.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from ledger.audio.probe import AudioError, probe
from ledger.call import CallState, Recording, set_recording_aside, store_message
from ledger.errors import CallerError, ConflictError
from ledger.events import DomainEvent, MessageDelivered, MessageStored, Stamp
from ledger.server.parts import ServerParts
from ledger.server.requests import StoredMessage
from ledger.server.streams import Events, change_call, load_call
from ledger.storage.spool import FinishedRecording, SpoolFile
from ledger.storage.stored_form import RecordingMetadata


class TooLargeError(CallerError):
    """The recording is longer than this server takes. What was received is set aside."""


async def record_message(
    parts: ServerParts, call_id: UUID, audio: AsyncIterator[bytes], content_type: str | None
) -> StoredMessage:
    """Take a call's recording; on return the message is durable here, or already at its home.

    Raises NotFoundError for an unknown call, ConflictError for one that takes no recording,
    AudioError or TooLargeError for audio that cannot be a message (it is set aside and an event
    says where), TransientError when the disk is full. When the bytes stop coming before their end
    (the switch died), what arrived stays in the spool and becomes a recovered message, unless the
    switch repeats its request first.
    """
    _expect_voicemail(await load_call(parts.log, call_id))
    recording = await _receive(parts, call_id, audio, content_type)
    finished = await parts.offload(recording.finish)
    facts = await _understand(parts, call_id, recording, finished, content_type)
    message = await keep_message(parts, call_id, finished, facts, is_recovered=False)
    return await _deliver(parts, message)


async def keep_message(
    parts: ServerParts,
    call_id: UUID,
    finished: FinishedRecording,
    facts: AudioFacts,
    *,
    is_recovered: bool,
) -> MessageStored:
    """Make a finished spool file the call's message: blob, then events, then the spool is freed.

    Gives the message as it stands in the log, also when it already stood there.
    """
    # A crash before this line's sync leaves the spool file; after it, also an orphan blob.
    await parts.offload(lambda: parts.blobs.put_file(finished.blob_digest, finished.path))
    recording = Recording(
        message_id=parts.new_id(),
        blob=finished.blob_digest,
        blob_size_bytes=finished.blob_size_bytes,
        audio=facts,
        is_recovered=is_recovered,
    )
    stamp = Stamp(at=parts.clock.now(), by=parts.config.server)
    # A crash after this commit leaves the message and a spool file that the next start removes.
    state, events = await change_call(
        parts.log, call_id, lambda state: _message_events(state, recording, stamp)
    )
    await parts.offload(lambda: parts.spool.remove(finished.path))
    stored = next((e for e in events if isinstance(e, MessageStored)), None)
    return stored or _known(state, facts)


def _known(state: CallState, facts: AudioFacts) -> MessageStored:
    return next(m for m in state.messages if m.audio.digest == facts.digest)


def _message_events(state: CallState, recording: Recording, stamp: Stamp) -> Events:
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


def _expect_voicemail(state: CallState) -> None:
    if state.decision is None or not state.decision.to_voicemail:
        raise ConflictError(
            f"call {state.id} is handled normally and takes no recording; "
            "report a call for voicemail first"
        )


async def _receive(
    parts: ServerParts, call_id: UUID, audio: AsyncIterator[bytes], content_type: str | None
) -> SpooledRecording:
    metadata = RecordingMetadata(
        call_id=call_id,
        server=parts.config.server,
        started_at=parts.clock.now(),
        content_type=content_type,
    )
    recording = await parts.offload(lambda: parts.spool.open(metadata))
    limit_bytes = parts.config.calls.max_upload_bytes
    received_bytes = 0
    try:
        async for chunk in audio:
            received_bytes += len(chunk)
            await parts.offload(partial(recording.append, chunk))
            if received_bytes > limit_bytes:
                break
    except BaseException:
        # What arrived is kept: `recover_recordings` makes a message of it.
        recording.close()
        raise
    if received_bytes > limit_bytes:
        finished = await parts.offload(recording.finish)
        reason = f"the recording is larger than the {limit_bytes} bytes that this server takes"
        await set_aside(parts, call_id, finished, reason)
        raise TooLargeError(f"{reason}; what arrived is kept in {finished.path}")
    return recording


async def _understand(
    parts: ServerParts,
    call_id: UUID,
    finished: FinishedRecording,
    content_type: str | None,
) -> AudioFacts:
    """Find out what the recording is; set it aside when it cannot be a message."""
    try:
        return await parts.offload(
            lambda: probe(parts.spool.read(finished.path), content_type, parts.config.calls.limits)
        )
    except AudioError as error:
        await set_aside(parts, call_id, finished, str(error))
        raise


async def set_aside(
    parts: ServerParts, call_id: UUID, finished: FinishedRecording, reason: str
) -> str:
    """Keep the bytes for a person, durably, and record where; gives the place."""
    place = await parts.offload(lambda: parts.spool.set_aside(finished.path, reason))
    stamp = Stamp(at=parts.clock.now(), by=parts.config.server)
    await change_call(
        parts.log,
        call_id,
        lambda state: (
            set_recording_aside(
                state,
                digest=finished.received_digest,
                size_bytes=finished.received_size_bytes,
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
    is_at_home = not is_remote or await parts.deliveries.deliver_now(
        message.message_id, message.home, parts.config.replication.deadline_s
    )
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
