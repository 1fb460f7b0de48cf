"""One voicemail server: its use cases, and the work that it does by itself.

It joins the modules of claim 8 behind one object that every adapter talks to: the HTTP API, the
command line's tests, a telephony driver, a simulation.

Source: claims 1-8.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from ledger.call import CallState, abandon
from ledger.errors import CallerError
from ledger.events import (
    BackupVerified,
    DomainEvent,
    Epoch,
    GreetingRecorded,
    ServerId,
    ServerStarted,
    Stamp,
    WentBackAcknowledged,
)
from ledger.ids import MailboxAddress
from ledger.mailbox import GreetingKind
from ledger.message import Action
from ledger.server import erasure, retention
from ledger.server.accesses import Accesses
from ledger.server.act_on_message import act_on_message
from ledger.server.erasure import Erased, Erasing
from ledger.server.greetings import record_greeting, remove_greeting
from ledger.server.parts import ServerParts
from ledger.server.pin_guesses import PinGuesses
from ledger.server.pins import change_pin, check_pin
from ledger.server.record_message import record_message
from ledger.server.recover_recordings import recover_recordings
from ledger.server.rehome_mailbox import rehome_mailbox
from ledger.server.retention import Due
from ledger.server.streams import change_call
from ledger.server.take_call import take_call
from ledger.storage.sealed_recording import open_recording
from ledger.telephony.switch import CallDecision, CallReport, StoredMessage

_LOG: Final = logging.getLogger(__name__)


class VoicemailServer:
    """The use cases of one server. All methods are safe to call at the same time, and again."""

    def __init__(self, parts: ServerParts, *, software_version: str) -> None:
        self.parts = parts
        self._version = software_version
        self._guesses = PinGuesses(parts.clock)
        self.accesses = Accesses(parts.config.server, parts.log, parts.clock, parts.new_id)
        self._recovery: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Recover what a crash left behind, then begin to serve."""
        head = await self.parts.log.head()
        await self.parts.server_stream.record(
            ServerStarted, incarnation=head.incarnation, software_version=self._version
        )
        await recover_recordings(self.parts, idle_for_s=0)
        self._recovery = asyncio.create_task(self._keep_recovering(), name="recover-recordings")

    async def stop(self) -> None:
        """End the work that the server does by itself."""
        if self._recovery is not None:
            self._recovery.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._recovery

    async def _keep_recovering(self) -> None:
        grace_s = self.parts.config.calls.recording_grace_s
        while True:
            await self.parts.clock.sleep(grace_s)
            try:
                await recover_recordings(self.parts, idle_for_s=grace_s)
            except Exception:  # noqa: BLE001
                # One bad round must not end the recovery of later ones.
                _LOG.exception("action=recovery-failed")

    async def report_call(self, report: CallReport) -> CallDecision:
        """Decide what happens to a call (claims 1, 2 and 8)."""
        return await take_call(self.parts, report)

    async def record_message(
        self, call_id: UUID, audio: AsyncIterator[bytes], content_type: str | None
    ) -> StoredMessage:
        """Take the recording of a call; durable on return (claims 1, 3 and 4)."""
        return await record_message(self.parts, call_id, audio, content_type)

    async def abandon_call(self, call_id: UUID, reason: str) -> None:
        """Record that a call ended without a message."""
        stamp = self._stamp()

        def decide(state: CallState) -> tuple[DomainEvent, ...]:
            event = abandon(state, reason, stamp)
            return (event,) if event is not None else ()

        await change_call(self.parts.log, call_id, decide)

    async def act_on_message(
        self, call_id: UUID, message_id: UUID, action: Action, by: str
    ) -> bool:
        """Record that a message was heard, saved, deleted or restored; False if nothing changed."""
        return await act_on_message(self.parts, call_id, message_id, action, by)

    async def record_greeting(
        self,
        mailbox: MailboxAddress,
        kind: GreetingKind,
        audio: AsyncIterator[bytes],
        content_type: str | None,
    ) -> GreetingRecorded:
        """Make a sound the greeting of a mailbox that lives here; durable on return."""
        return await record_greeting(self.parts, mailbox, kind, audio, content_type)

    async def remove_greeting(self, mailbox: MailboxAddress, kind: GreetingKind, by: str) -> None:
        """Leave a mailbox that lives here without a greeting of this kind."""
        await remove_greeting(self.parts, mailbox, kind, by)

    async def change_pin(self, mailbox: MailboxAddress, pin: str | None, by: str) -> None:
        """Give a mailbox that lives here another PIN, or none."""
        await change_pin(self.parts, mailbox, pin, by)
        self._guesses.forget(mailbox)

    async def check_pin(self, mailbox: MailboxAddress, pin: str) -> bool:
        """Is this the PIN of a mailbox, wherever it lives? Raises PinLockedError when locked."""
        return await self._guesses.take(mailbox, lambda: check_pin(self.parts, mailbox, pin))

    async def read_audio(self, blob: str) -> bytes:
        """Give the received bytes of a recording, verified against the address of its blob.

        Raises NotFoundError when the blob or the key that it is sealed with is not here
        (ErasedError: the key was destroyed), CorruptionError when it is damaged.
        """
        location = (await self.parts.log.locate_blobs([blob])).get(blob)
        find_key = self.parts.vault.key
        return await self.parts.blob_offload(
            lambda: open_recording(
                self.parts.blobs.get(blob, location), find_key, place=f"blob {blob}"
            )
        )

    async def requeue_message(self, call_id: UUID, message_id: UUID) -> None:
        """Ship a held message again, to the home that the configuration names now."""
        await self.parts.deliveries.requeue(call_id, message_id)

    async def rehome_mailbox(
        self, mailbox: MailboxAddress, to: ServerId, by: str, *, is_forced: bool = False
    ) -> Epoch:
        """Move a mailbox to another server, or take it; gives the epoch of its new home."""
        return await rehome_mailbox(self.parts, mailbox, to, by, is_forced=is_forced)

    async def record_verified_backup(self, position: int, place: str) -> None:
        """Record that a finished, verified backup covers this log up to a position.

        From then on receipts call that much *safe*, and origins may free their copies of the audio.
        Raises CallerError for a position that the log has not reached.
        """
        head = await self.parts.log.head()
        if not 0 < position <= head.position:
            raise CallerError(
                f"position {position} is not in the log, which ends at {head.position}; "
                "give the position that the backup was made at"
            )
        await self.parts.server_stream.record(BackupVerified, position=position, place=place)

    async def acknowledge_went_back(
        self, server: ServerId, incarnation: UUID, by: str, reason: str
    ) -> None:
        """Record that an operator knows why a log went back; durable on return."""
        await self.parts.server_stream.record(
            WentBackAcknowledged, server=server, incarnation=incarnation, by=by, reason=reason
        )

    def _stamp(self) -> Stamp:
        return Stamp(at=self.parts.clock.now(), by=self.parts.config.server)

    async def hold_mailbox(self, mailbox: MailboxAddress, by: str, reason: str) -> None:
        """Put a mailbox under a legal hold; durable on return."""
        await retention.hold_mailbox(self.parts, mailbox, by, reason)

    async def release_mailbox(self, mailbox: MailboxAddress, by: str, reason: str) -> None:
        """End a mailbox's legal hold; durable on return."""
        await retention.release_mailbox(self.parts, mailbox, by, reason)

    async def is_held(self, mailbox: MailboxAddress) -> bool:
        """Is this mailbox under a legal hold?"""
        return await retention.is_held(self.parts, mailbox)

    async def trash_by_rule(self, due: Due) -> bool:
        """Move a message to the trash because a rule says so, unless it is held."""
        return await retention.trash_by_rule(self.parts, due)

    async def erase_message(self, call_id: UUID, message_id: UUID, erasing: Erasing) -> Erased:
        """Erase a message for good, and the key of its call with the last one of it."""
        erased = await erasure.erase_message(self.parts, call_id, message_id, erasing)
        assert erased is not None, "it need not be in the trash"
        return erased

    async def erase_call(self, call_id: UUID, erasing: Erasing) -> Erased:
        """Erase a call that left no message."""
        return await erasure.erase_call(self.parts, call_id, erasing)

    async def is_erased(self, call_id: UUID) -> bool:
        """Was the key of this call destroyed here?"""
        return await erasure.is_erased(self.parts, call_id)

    async def erase_by_rule(self, due: Due, reason: str) -> bool:
        """Erase a message in the trash because a rule says so, unless it is held."""
        return await retention.erase_by_rule(self.parts, due, reason)
