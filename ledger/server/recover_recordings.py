"""Turn interrupted recordings into messages: at start, and when a switch does not come back.

A spool file that nobody writes any more is one of four things: of a message that stands in the log
already (the crash came just before the file was removed), an interrupted recording, a fragment of
a call whose whole recording arrived on a second try, or of a call that this log does not know. The
first is removed, the second becomes a message marked as recovered, the others are set aside for a
person: no recorded voice is ever thrown away unheard.

Source: claims 1 and 10.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final
from uuid import UUID

from ledger.audio.probe import probe
from ledger.call import CallState
from ledger.errors import LedgerError, NotFoundError
from ledger.server.parts import ServerParts
from ledger.server.record_message import Spooled, keep_message, set_aside
from ledger.server.streams import load_call
from ledger.storage.torn_spool import InterruptedRecording

_LOG: Final = logging.getLogger(__name__)


async def recover_all(parts: ServerParts) -> None:
    """Deal with every spool file. For the start, before anything is recorded.

    One that cannot be dealt with now stays where it is, is logged, and is met at the next start.
    """
    for interrupted in await parts.offload(parts.spool.interrupted):
        await _try(parts, interrupted)


async def recover_left_over(parts: ServerParts) -> None:
    """Deal with uploads that broke off and were not repeated within the grace period."""
    oldest_s = parts.clock.monotonic_s() - parts.config.calls.recording_grace_s
    for call_id in [call for call, since_s in parts.left_over.items() if since_s <= oldest_s]:
        del parts.left_over[call_id]
        interrupted = await parts.offload(partial(parts.spool.interrupted_recording, call_id))
        if interrupted is not None and not await _try(parts, interrupted):
            parts.left_over[call_id] = parts.clock.monotonic_s()


async def _try(parts: ServerParts, interrupted: InterruptedRecording) -> bool:
    try:
        await _recover(parts, interrupted)
    except LedgerError as error:
        _LOG.error("action=recording-not-recovered file=%s error=%s", interrupted.path, error)
        return False
    return True


async def _recover(parts: ServerParts, interrupted: InterruptedRecording) -> None:
    spooled = Spooled(
        path=interrupted.path,
        blob_digest=interrupted.blob_digest,
        blob_size_bytes=interrupted.blob_size_bytes,
        received_digest=interrupted.received_digest,
        received_size_bytes=len(interrupted.received),
    )
    state = await _call_of(parts, interrupted.call_id)
    if state is None:
        unknown = f"this log has no call {interrupted.call_id}"
        await parts.offload(partial(parts.spool.set_aside, spooled.path, unknown))
    elif any(m.audio.digest == spooled.received_digest for m in state.messages):
        await parts.offload(partial(parts.spool.discard, spooled.path))
    elif reason := _why_not_a_message(state, interrupted):
        await set_aside(parts, state.id, spooled, reason)
    else:
        await _keep(parts, state, interrupted, spooled)


async def _keep(
    parts: ServerParts, state: CallState, interrupted: InterruptedRecording, spooled: Spooled
) -> None:
    content_type = interrupted.metadata.content_type if interrupted.metadata else None
    look = partial(probe, interrupted.received, content_type, tolerate_truncation=True)
    facts = await parts.offload(look)
    message = await keep_message(parts, state.id, spooled, facts, is_recovered=True)
    _LOG.warning(
        "action=recording-recovered call=%s message=%s duration_ms=%d",
        state.id,
        message.message_id,
        facts.duration_ms,
    )


async def _call_of(parts: ServerParts, call_id: UUID | None) -> CallState | None:
    if call_id is None:
        return None
    try:
        return await load_call(parts.log, call_id)
    except NotFoundError:
        return None


def _why_not_a_message(state: CallState, interrupted: InterruptedRecording) -> str | None:
    if not interrupted.received:
        return "nothing had been recorded"
    if state.decision is None or not state.decision.to_voicemail:
        return "the call is handled normally"
    if any(not m.is_recovered for m in state.messages):
        return "the whole recording arrived on a second try"
    return None
