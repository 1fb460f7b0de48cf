"""What people and switches do: leave messages, listen to them, and one thing that nobody should."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from ledger.call import CallState, Recording, store_message
from ledger.errors import (
    ConflictError,
    CorruptionError,
    LedgerError,
    NotFoundError,
    TransientError,
)
from ledger.events import AudioFacts, CallStatus, DomainEvent, Stamp
from ledger.ids import MailboxAddress, mailbox_stream_id, message_stream_id
from ledger.mailbox import GreetingKind
from ledger.message import Action
from ledger.server import CallReport, Erasing, NotHomeError, NotInCustodyError, StoredMessage
from ledger.server.streams import change_call
from ledger.storage.blob_care import gc
from ledger.storage.spool import SYNC_INTERVAL_S
from ledger.storage.stored_form import RecordingMetadata, encode
from tests.simulation.callers import caller_of
from tests.simulation.promises import Done, accept
from tests.simulation.server import Process, Unanswered, chunks_of
from vmledger.blob_needs import needed_blobs

if TYPE_CHECKING:
    from tests.simulation.faults import Call, ChangePin, Greet, Move, Poison
    from tests.simulation.world import World


POISON = b"poison"
GC_MIN_AGE_S = 5.0
"""Longer than any recording or batch takes here from its bytes to its events."""
PINS = ("2580", "1470")
"""What owners of mailboxes choose."""


async def place_call(world: World, call: Call) -> None:
    """Report a call and hand over its recording, as often as the switch has patience for."""
    for attempt in range(call.attempts):
        process = world.listener(call.server)
        if process is not None:
            try:
                breaks_after = call.breaks_after if attempt == 0 else None
                message = await _record(world, process, call, breaks_after)
            except (Unanswered, TransientError, CorruptionError, ConnectionError):
                pass
            except ConflictError:
                pass  # the broken upload of an earlier attempt is still being noticed
            else:
                accept(world, process, call, message)
                return
        await asyncio.sleep(call.patience_s)


async def _record(
    world: World, process: Process, call: Call, breaks_after: int | None
) -> StoredMessage:
    caller = caller_of(call.call_id)
    report = CallReport(
        called_extension=call.extension,
        status=CallStatus.NO_ANSWER,
        caller_number=caller.number,
        caller_name=caller.name,
        call_id=call.call_id,
    )
    decision = await process.ask(process.server.report_call(report))
    assert decision.transfer, "every extension has a mailbox"
    began_s = world.now_s

    def taken(so_far: bytes) -> None:
        # The pauses are longer than that: with each piece, all before it is synced as well.
        if world.now_s - began_s > SYNC_INTERVAL_S:
            name = process.machine.id
            world.told.spooled.append((world.now_s, name, call.call_id, so_far))

    chunks = chunks_of(call.audio, call.chunks, call.pause_s, breaks_after, taken)
    message: StoredMessage = await process.ask(
        process.server.record_message(call.call_id, chunks, "audio/basic")
    )
    return message


async def act(world: World, which: float, action: Action, by: str) -> None:
    """A user does something to a message, at the server that answers for it."""
    if not world.told.accepted:
        return
    accepted = list(world.told.accepted.values())[int(which * len(world.told.accepted))]
    message_id = accepted.message.message_id
    first = (accepted.message.home, accepted.call.server)
    for name in dict.fromkeys((*first, *world.machines)):
        process = world.listener(name)
        if process is None:
            continue
        try:
            await process.ask(
                process.server.act_on_message(accepted.call_id, message_id, action, by)
            )
        except (NotFoundError, NotInCustodyError):
            continue  # this server does not answer for it
        except (LedgerError, Unanswered):
            return
        streams = process.machine.image.streams
        own = message_stream_id(message_id, name)
        entries = [*streams.get(accepted.call_id, ()), *streams.get(own, ())]
        if any(by.encode() in entry.plain for entry in entries):  # else nothing had to change
            extension, call_id = accepted.call.extension, accepted.call_id
            done = Done(world.now_s, name, extension, call_id, message_id, by)
            world.told.actions.append(done)
        return


async def erase(world: World, which: float, by: str) -> None:
    """An operator erases a message, at the server that answers for it."""
    if not world.told.accepted:
        return
    accepted = list(world.told.accepted.values())[int(which * len(world.told.accepted))]
    message_id = accepted.message.message_id
    first = (accepted.message.home, accepted.call.server)
    for name in dict.fromkeys((*first, *world.machines)):
        process = world.listener(name)
        if process is None:
            continue
        # Noted before the answer: a server that dies meanwhile may have done it.
        world.told.erased.add(accepted.call_id)
        try:
            await process.ask(
                process.server.erase_message(
                    accepted.call_id, message_id, Erasing(by, "an operator was asked to")
                )
            )
        except (NotFoundError, NotInCustodyError):
            continue  # this server does not answer for it
        except (LedgerError, Unanswered):
            return
        world.network.note("erased", accepted.call_id, name)
        return


async def move(world: World, move: Move) -> None:
    """Move a mailbox, where a server says that it may."""
    for name in [move.to] if move.is_forced else list(world.machines):
        process = world.listener(name)
        if process is None:
            continue
        mailbox = MailboxAddress(move.extension)
        # Noted before the answer: a server that dies meanwhile may have done it.
        world.told.moves.append((move.extension, move.to))
        try:
            await process.ask(
                process.server.rehome_mailbox(
                    mailbox, move.to, "operator", is_forced=move.is_forced
                )
            )
        except NotHomeError:
            continue
        return


async def collect(process: Process, keep_for: timedelta) -> None:
    """Drop what nothing needs on a server, by the code of the command that does it."""
    parts, recorder = process.server.parts, process.recorder

    def sweep() -> None:
        needed = needed_blobs(recorder, parts.config.server, keep_for, parts.clock.now())
        locations = recorder.locate_blobs(sorted(needed))
        gc(parts.blobs, needed, locations, min_age_s=GC_MIN_AGE_S)

    await process.ask(parts.offload(sweep))


async def poison(world: World, poison: Poison) -> None:
    """Put a message into a log whose recording is not what its event says."""
    process = world.listener(poison.server)
    if process is None:
        return
    call_id = poison.call_id
    report = CallReport(called_extension=poison.extension, status=CallStatus.BUSY, call_id=call_id)
    await process.ask(process.server.report_call(report))
    world.told.no_calls.add(call_id)
    # Noted before the answer: a server that dies meanwhile may have stored it.
    world.told.poison.add(poison.message_id)
    await process.ask(_store_poison(process, call_id, poison.message_id))


async def greet(world: World, greet: Greet) -> None:
    """The owner of a mailbox records a greeting at its home."""
    process = _home_of(world, greet.server, greet.extension)
    if process is not None:
        mailbox = MailboxAddress(greet.extension)
        await _no_call(world, process, mailbox)
        sound = f"greeting of {mailbox} at {world.now_s} by {process.name}".encode()
        await process.ask(
            process.server.record_greeting(
                mailbox, GreetingKind.UNAVAILABLE, chunks_of(sound, 1, 0.0), "audio/basic"
            )
        )


def _home_of(world: World, server: str, extension: str) -> Process | None:
    """Give a server that takes itself for the home: this one or, since a move, another."""
    for name in dict.fromkeys((server, *world.machines)):
        process = world.listener(name)
        if process is not None and process.homes.is_ours(f"{extension}@default"):
            return process
    return None


async def change_pin(world: World, change: ChangePin) -> None:
    """The owner of a mailbox chooses a PIN at its home."""
    process = _home_of(world, change.server, change.extension)
    if process is not None:
        mailbox = MailboxAddress(change.extension)
        await _no_call(world, process, mailbox)
        await process.ask(process.server.change_pin(mailbox, change.pin, "ann"))


async def _no_call(world: World, process: Process, mailbox: MailboxAddress) -> None:
    """Note that what is kept for this mailbox now is nothing that a caller said."""
    incarnation = (await process.ask(process.log.head())).incarnation
    world.told.no_calls.add(mailbox_stream_id(mailbox, process.machine.id, incarnation))


def _facts(sound: bytes, digest: str) -> AudioFacts:
    return AudioFacts(
        digest=digest,
        size_bytes=len(sound),
        container="raw",
        codec="pcmu",
        sample_rate_hz=8000,
        channels=1,
        duration_ms=1,
    )


async def _store_poison(process: Process, call_id: UUID, message_id: UUID) -> None:
    """Store a message as a defective program would: its facts are not those of its sound."""
    parts = process.server.parts
    now = parts.clock.now()
    metadata = RecordingMetadata(call_id=call_id, server=parts.config.server, started_at=now)
    stored = encode(POISON, metadata)
    digest = hashlib.sha256(stored).hexdigest()
    await parts.offload(lambda: parts.blobs.put(digest, stored))
    facts = _facts(POISON, hashlib.sha256(b"other").hexdigest())
    recording = Recording(
        message_id=message_id, blob=digest, blob_size_bytes=len(stored), audio=facts
    )
    stamp = Stamp(at=now, by=parts.config.server)

    def decide(state: CallState) -> list[DomainEvent]:
        event = store_message(state, recording, stamp)
        return [event] if event is not None else []

    await change_call(parts.log, call_id, decide)
