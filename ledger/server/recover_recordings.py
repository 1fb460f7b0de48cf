"""Turn interrupted recordings into messages: at start, and when a switch does not come back.

A spool file that nobody writes any more is one of four things: of a message that stands in the log
already (the crash came just before the file was removed), an interrupted recording, a fragment of
a call whose whole recording arrived on a second try, or of a call that this log does not know. The
first is removed, the second becomes a message marked as recovered, the others are set aside for a
person: no recorded voice is ever thrown away unheard.

Source: claims 1 and 10.
"""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import Final

from ledger.audio.probe import probe
from ledger.call import CallState
from ledger.errors import LedgerError, NotFoundError
from ledger.events import AudioFacts
from ledger.server.parts import ServerParts
from ledger.server.record_message import keep_message, set_aside
from ledger.server.streams import load_call
from ledger.storage.torn_spool import InterruptedRecording

_LOG: Final = logging.getLogger(__name__)


async def recover_recordings(parts: ServerParts, *, idle_for_s: float) -> int:
    """Deal with every spool file that was not written to for that long; gives how many.

    One that cannot be dealt with now stays where it is, is logged, and is met again next time.
    """
    count = 0
    for interrupted in await parts.offload(partial(parts.spool.interrupted, idle_for_s)):
        try:
            await _recover(parts, interrupted)
            count += 1
        except LedgerError as error:
            _LOG.error("action=recording-not-recovered file=%s error=%s", interrupted.path, error)
        finally:
            parts.spool.release(interrupted.path)
    return count


async def _recover(parts: ServerParts, interrupted: InterruptedRecording) -> None:
    call_id, state = interrupted.call_id, None
    if call_id is not None:
        with contextlib.suppress(NotFoundError):
            state = await load_call(parts.log, call_id)
    if call_id is None or state is None:
        reason = f"this log knows no call {call_id or 'of that name'}"
        await parts.offload(partial(parts.spool.set_aside, interrupted.path, reason))
        return
    if any(m.blob == interrupted.blob_digest for m in state.messages):
        await parts.offload(partial(parts.spool.discard, interrupted.path))
        return
    why_not = _why_not_a_message(state, interrupted.received_bytes_count)
    if why_not is not None:
        await set_aside(parts, call_id, interrupted, why_not)
        return
    facts = await parts.offload(partial(_facts, interrupted))
    message = await keep_message(parts, call_id, interrupted, facts, is_recovered=True)
    _LOG.warning(
        "action=recording-recovered call=%s message=%s duration_ms=%d",
        call_id,
        message.message_id,
        facts.duration_ms,
    )


def _why_not_a_message(state: CallState, size_bytes: int) -> str | None:
    if size_bytes == 0:
        return "nothing had been recorded"
    if state.decision is None or not state.decision.to_voicemail:
        return "the call is handled normally"
    if any(not m.is_recovered for m in state.messages):
        return "the whole recording arrived on a second try"
    return None


def _facts(interrupted: InterruptedRecording) -> AudioFacts:
    content_type = interrupted.metadata.content_type if interrupted.metadata is not None else None
    return probe(interrupted.received, content_type, tolerate_truncation=True)
