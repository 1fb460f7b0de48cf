"""Record and remove a mailbox's greetings.

A greeting's sound is durable before the event that names it. Whoever got no answer says it again:
the same sound a second time changes nothing. It needs no spool, unlike a message: its owner is
still there and has the sound.

Source: claims 9, 10 and 11.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from ledger import mailbox as mailboxes
from ledger.audio.probe import AudioLimits, probe
from ledger.events import AudioFacts, GreetingRecorded
from ledger.ids import MailboxAddress
from ledger.mailbox import GreetingKind, Sound
from ledger.server.change_mailbox import change_mailbox, keep_blob, own_mailbox
from ledger.server.parts import ServerParts
from ledger.server.record_message import TooLargeError


async def record_greeting(
    parts: ServerParts,
    mailbox: MailboxAddress,
    kind: GreetingKind,
    audio: AsyncIterator[bytes],
    content_type: str | None,
) -> GreetingRecorded:
    """Make a sound the mailbox's greeting; durable on return, and on its way to every server.

    Gives the event that recorded it, also when that stood in the log already. Raises NotFoundError
    or NotHomeError, AudioError or TooLargeError for what is no greeting, TransientError when the
    disk is full.
    """
    state = await own_mailbox(parts, mailbox)
    received = await _receive(parts, audio)
    facts = await parts.offload(partial(_understand, parts, received, content_type))
    known = state.greeting(kind)
    if known is not None and known.audio == facts:
        return known
    blob, size_bytes = await keep_blob(parts, mailbox, received, content_type)
    sound = Sound(blob=blob, blob_size_bytes=size_bytes, audio=facts)
    state, event = await change_mailbox(
        parts, mailbox, lambda now, *where: mailboxes.record_greeting(now, kind, sound, *where)
    )
    recorded = event or state.greeting(kind)
    assert recorded is not None, "nothing had to change because it is there"
    return recorded


async def remove_greeting(
    parts: ServerParts, mailbox: MailboxAddress, kind: GreetingKind, by: str
) -> None:
    """Leave the mailbox without a greeting of this kind; nothing happens when it has none.

    Raises NotFoundError or NotHomeError.
    """
    await change_mailbox(
        parts, mailbox, lambda now, *where: mailboxes.remove_greeting(now, kind, by, *where)
    )


async def _receive(parts: ServerParts, audio: AsyncIterator[bytes]) -> bytes:
    most = parts.config.profiles.max_greeting_bytes
    received = bytearray()
    async for chunk in audio:
        received += chunk
        if len(received) > most:
            raise TooLargeError(f"the greeting is larger than the {most} bytes that are taken here")
    return bytes(received)


def _understand(parts: ServerParts, received: bytes, content_type: str | None) -> AudioFacts:
    limits = AudioLimits(
        max_duration_ms=round(parts.config.profiles.max_greeting_duration_s * 1000)
    )
    return probe(received, content_type, limits=limits)
