"""The use cases whose every durable step is a place to die."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from ledger.audio.errors import AudioError
from ledger.events import (
    CallErased,
    GreetingRecorded,
    MailboxOpened,
    MailboxRehomed,
    MessageDelivered,
    MessageMigrated,
    MessageSaved,
    MessageStored,
    PinChanged,
    RecordingSetAside,
    TransferDecided,
)
from ledger.mailbox import GreetingKind
from ledger.message import Action
from ledger.server import Erasing, NotHomeError
from ledger.telephony.switch import CallReport, CallStatus
from tests.integration.crash_table.steps import SPOOL
from tests.integration.crash_table.world import (
    AUDIO,
    MEDIA_TYPE,
    OWN_MAILBOX,
    PIN,
    Site,
    World,
    eventually,
    spoken,
)

CALL = UUID(int=1)
UNUSABLE = b"\x00" * 100
"""Too short to be a message."""


@dataclass(frozen=True)
class UseCase:
    """Something that a server does, and how it goes on after a crash in it."""

    title: str
    crashing: str
    """The server that dies."""
    prepare: Callable[[World], Awaitable[None]]
    """What happens before."""
    act: Callable[[World], Awaitable[Any]]
    """The use case."""
    is_done: Callable[[World], bool]
    """Has the log what the use case is for?"""
    repeat: Callable[[World], Awaitable[Any]] | None
    """What the one who asked does when the server is back; None: nobody asked."""
    asker: str
    """Who that is."""
    least_steps: int
    """The table has at least so many; else the harness has lost sight of some."""


# --- what happens -----------------------------------------------------------------------------


async def nothing(world: World) -> None:
    pass


def report(extension: str) -> Callable[[World], Awaitable[Any]]:
    async def do(world: World) -> Any:
        request = CallReport(
            called_extension=extension,
            status=CallStatus.NO_ANSWER,
            caller_number="555",
            call_id=CALL,
        )
        return await world.alpha.ask(world.alpha.server.report_call(request))

    return do


async def record(world: World) -> Any:
    server = world.alpha.server
    return await world.alpha.ask(server.record_message(CALL, spoken(world.audio), MEDIA_TYPE))


async def record_something_unusable(world: World) -> None:
    world.audio = UNUSABLE
    with pytest.raises(AudioError):
        await record(world)


async def is_sent(world: World) -> None:
    """Wait until the message is at its home and that is recorded, or the server died."""
    await eventually(lambda: is_migrated(world) or world.crashing.steps.is_dead)


def save_at(name: str) -> Callable[[World], Awaitable[Any]]:
    async def do(world: World) -> Any:
        site = world.sites[name]
        message_id = message_of(world).message_id
        return await site.ask(site.server.act_on_message(CALL, message_id, Action.SAVE, "user 7"))

    return do


async def erase(world: World) -> Any:
    site, message_id = world.bravo, message_of(world).message_id
    erasing = Erasing("operator", "somebody asked")
    return await site.ask(site.server.erase_message(CALL, message_id, erasing))


async def is_told(world: World) -> None:
    """Wait until the erasure is known where the call was taken, or that server died."""
    await eventually(lambda: is_erased_at("alpha")(world) or world.crashing.steps.is_dead)


async def greet(world: World) -> Any:
    server = world.alpha.server
    sound = spoken(world.audio)
    return await world.alpha.ask(
        server.record_greeting(OWN_MAILBOX, GreetingKind.UNAVAILABLE, sound, MEDIA_TYPE)
    )


async def set_pin(world: World) -> Any:
    return await world.alpha.ask(world.alpha.server.change_pin(OWN_MAILBOX, PIN, "user 1"))


async def profile_is_known(world: World) -> None:
    """Wait until the other server knows the greeting and the PIN, or the server died."""
    await eventually(lambda: is_profile_known(world) or world.crashing.steps.is_dead)


def rehome(at: str, *, by_force: bool = False) -> Callable[[World], Awaitable[Any]]:
    """Let an operator move the mailbox to bravo; somebody who asks again hears that it is done."""

    async def do(world: World) -> None:
        site = world.sites[at]
        moving = site.server.rehome_mailbox(OWN_MAILBOX, "bravo", "ann", is_forced=by_force)
        with contextlib.suppress(NotHomeError):
            await site.ask(moving)

    return do


async def is_gone(world: World) -> None:
    """Wait until the message is at its new home and that is recorded, or the server died."""
    await eventually(lambda: is_moved(world) or world.crashing.steps.is_dead)


async def cut(world: World) -> None:
    world.is_cut = True


async def mend(world: World) -> None:
    world.is_cut = False


async def break_off(world: World) -> None:
    """The switch dies in the middle of an upload, then the server; a frame is torn."""
    server = world.alpha.server
    upload = spoken(world.audio, breaks_off_after=3)
    with pytest.raises(ConnectionError):
        await world.alpha.ask(server.record_message(CALL, upload, MEDIA_TYPE))
    await world.alpha.go_down()
    (path,) = (p for p in world.alpha.disk.names if p.parent == SPOOL)
    inode = world.alpha.disk.names[path]
    inode.content += b"\x28\xb5\x2f\xfd torn"
    inode.synced_bytes = len(inode.content)


async def start(world: World) -> None:
    await world.alpha.boot(is_counted=True)


def then(*deeds: Callable[[World], Awaitable[Any]]) -> Callable[[World], Awaitable[None]]:
    async def do(world: World) -> None:
        for deed in deeds:
            await deed(world)

    return do


def counted(*deeds: Callable[[World], Awaitable[Any]]) -> Callable[[World], Awaitable[None]]:
    """Count the steps of the server that may die from here on."""

    async def do(world: World) -> None:
        world.crashing.count()
        await then(*deeds)(world)

    return do


# --- what is the end of it --------------------------------------------------------------------


def message_of(world: World) -> MessageStored:
    """Give the whole message of the call."""
    (found,) = (m for m in world.alpha.of_kind(MessageStored) if is_whole(m))
    return found


def is_whole(message: MessageStored) -> bool:
    return message.audio.size_bytes == len(AUDIO)


def is_decided(world: World) -> bool:
    return bool(world.alpha.of_kind(TransferDecided))


def is_stored(world: World) -> bool:
    return any(is_whole(m) for m in world.alpha.of_kind(MessageStored))


def is_recovered(world: World) -> bool:
    return any(m.is_recovered for m in world.alpha.of_kind(MessageStored))


def is_delivered(world: World) -> bool:
    return is_stored(world) and any(
        e.message_id == message_of(world).message_id for e in world.bravo.of_kind(MessageDelivered)
    )


def is_migrated(world: World) -> bool:
    return bool(world.alpha.of_kind(MessageMigrated))


def is_moved(world: World) -> bool:
    """Does the mailbox live on bravo by both logs, and is the message there?"""
    claims = [site.of_kind(MailboxRehomed | MailboxOpened) for site in world.sites.values()]
    is_known = all(any(event.epoch == 2 for event in claim) for claim in claims)
    is_told = any(isinstance(e, MailboxOpened) or e.is_forced for e in claims[1])
    return is_known and is_told and is_migrated(world)


def is_set_aside(world: World) -> bool:
    return bool(world.alpha.of_kind(RecordingSetAside))


def is_greeted(world: World) -> bool:
    return bool(world.alpha.of_kind(GreetingRecorded))


def has_pin(world: World) -> bool:
    return bool(world.alpha.of_kind(PinChanged))


def is_profile_known(world: World) -> bool:
    kinds = [GreetingRecorded, PinChanged]
    return all(len(world.bravo.of_kind(kind)) == len(world.alpha.of_kind(kind)) for kind in kinds)


def is_saved_at(name: str) -> Callable[[World], bool]:
    def find(world: World) -> bool:
        site: Site = world.sites[name]
        return bool(site.of_kind(MessageSaved))

    return find


def is_erased_at(name: str) -> Callable[[World], bool]:
    def find(world: World) -> bool:
        return bool(world.sites[name].of_kind(CallErased))

    return find


OWN, REMOTE = "100", "200"
SWITCH, USER, ORIGIN, NOBODY = "the switch", "the user", "the origin", "nobody"
OPERATOR = "the operator"

USE_CASES = {
    "take-a-call": UseCase(
        "Take a call",
        "alpha",
        nothing,
        counted(report(REMOTE)),
        is_decided,
        report(REMOTE),
        SWITCH,
        least_steps=1,
    ),
    "record-at-home": UseCase(
        "Record a message at its own home",
        "alpha",
        report(OWN),
        counted(record),
        is_stored,
        record,
        SWITCH,
        least_steps=15,
    ),
    "record-for-an-absent-home": UseCase(
        "Record a message for a home that is away",
        "alpha",
        then(cut, report(REMOTE)),
        counted(record),
        is_stored,
        then(mend, record),
        SWITCH,
        least_steps=15,
    ),
    "record-for-a-present-home": UseCase(
        "Record a message for a home that is there",
        "alpha",
        report(REMOTE),
        counted(record),
        is_stored,
        record,
        SWITCH,
        least_steps=17,
    ),
    "set-aside": UseCase(
        "Set aside a recording that cannot be a message",
        "alpha",
        report(OWN),
        counted(record_something_unusable),
        is_set_aside,
        record_something_unusable,
        SWITCH,
        least_steps=10,
    ),
    "recover-at-start": UseCase(
        "Recover an interrupted recording at start",
        "alpha",
        then(report(OWN), break_off),
        start,
        is_recovered,
        None,
        NOBODY,
        least_steps=20,
    ),
    "receive-a-batch": UseCase(
        "Receive a batch at the home",
        "bravo",
        report(REMOTE),
        counted(record, is_sent),
        is_delivered,
        None,
        ORIGIN,
        least_steps=5,
    ),
    "give-a-mailbox-away": UseCase(
        "Give a mailbox with a message to another server",
        "alpha",
        then(report(OWN), record, save_at("alpha")),
        counted(rehome("alpha"), is_gone),
        is_moved,
        rehome("alpha"),
        OPERATOR,
        least_steps=3,
    ),
    "take-in-a-mailbox": UseCase(
        "Take in a mailbox that another server gives away",
        "bravo",
        then(report(OWN), record, save_at("alpha")),
        counted(rehome("alpha"), is_gone),
        is_moved,
        None,
        ORIGIN,
        least_steps=3,
    ),
    "take-a-mailbox-by-force": UseCase(
        "Take a mailbox by force; its home comes back later",
        "bravo",
        then(report(OWN), record, save_at("alpha"), cut),
        counted(rehome("bravo", by_force=True), mend, is_gone),
        is_moved,
        rehome("bravo", by_force=True),
        OPERATOR,
        least_steps=3,
    ),
    "record-a-receipt": UseCase(
        "Record the receipt at the origin",
        "alpha",
        then(cut, report(REMOTE), record),
        counted(mend, is_sent),
        is_migrated,
        None,
        NOBODY,
        least_steps=2,
    ),
    "act-while-pending": UseCase(
        "Act on a message that waits for its home",
        "alpha",
        then(cut, report(REMOTE), record),
        counted(save_at("alpha")),
        is_saved_at("alpha"),
        save_at("alpha"),
        USER,
        least_steps=1,
    ),
    "act-at-home": UseCase(
        "Act on a message at its home",
        "bravo",
        then(report(REMOTE), record, is_sent),
        counted(save_at("bravo")),
        is_saved_at("bravo"),
        save_at("bravo"),
        USER,
        least_steps=1,
    ),
    "erase-a-message": UseCase(
        "Erase a message at its home",
        "bravo",
        then(report(REMOTE), record, is_sent),
        counted(erase),
        is_erased_at("bravo"),
        erase,
        "the operator",
        least_steps=1,
    ),
    "take-in-an-erasure": UseCase(
        "Take in an erasure where the call was taken",
        "alpha",
        then(report(REMOTE), record, is_sent),
        counted(erase, is_told),
        is_erased_at("alpha"),
        None,
        "the home",
        least_steps=1,
    ),
    "record-a-greeting": UseCase(
        "Record a mailbox's greeting",
        "alpha",
        report(OWN),
        counted(greet),
        is_greeted,
        greet,
        USER,
        least_steps=6,
    ),
    "change-a-pin": UseCase(
        "Change a mailbox's PIN",
        "alpha",
        report(OWN),
        counted(set_pin),
        has_pin,
        set_pin,
        USER,
        least_steps=6,
    ),
    "receive-a-profile": UseCase(
        "Receive a greeting and a PIN at another server",
        "bravo",
        then(cut, report(OWN), greet, set_pin),
        counted(mend, profile_is_known),
        is_profile_known,
        None,
        ORIGIN,
        least_steps=11,
    ),
}
