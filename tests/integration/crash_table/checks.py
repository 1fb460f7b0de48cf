"""What must hold when all has come to rest, wherever the crash was."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator

from ledger.errors import LedgerError
from ledger.events import (
    CallErased,
    CallReceived,
    GreetingRecorded,
    MessageDelivered,
    MessageMigrated,
    MessageRehomed,
    MessageSaved,
    MessageStored,
    PinChanged,
    RecordingSetAside,
    TransferDecided,
    decode,
)
from ledger.ids import message_stream_id
from ledger.journey import Stage, journey_of
from ledger.mailbox import GreetingKind
from ledger.migration.receipts import verify_receipt
from ledger.storage.merkle import Frontier, leaf_hash
from tests.integration.crash_table.steps import DATA, SET_ASIDE, SPOOL
from tests.integration.crash_table.world import OWN_MAILBOX, PIN, Site, World
from tests.simulation.sounds import intact_in, is_sound_of

Findings = Iterator[str]
AsyncFindings = AsyncIterator[str]


async def find_faults(world: World) -> list[str]:
    """Give a sentence for everything that is wrong; empty when nothing is."""
    found = [f for check in WORLD_CHECKS for f in check(world)]
    for site in world.sites.values():
        found += await find_faults_of(world, site)
    return found


async def find_faults_of(world: World, site: Site) -> list[str]:
    """Look at one server alone: what its log says is there, and its spool is tidy."""
    found = [f for check in SITE_CHECKS for f in check(site)]
    found += [f async for f in _sound_is_whole(world, site)]
    return found + [f async for f in _profile_is_whole(world, site)]


def is_at_rest(world: World) -> bool:
    """Is nothing on its way any more?"""
    stored = {m.message_id for m in world.alpha.of_kind(MessageStored)}
    settled = {e.message_id for e in world.alpha.of_kind(MessageMigrated | MessageDelivered)}
    left = {e.message_id for e in world.alpha.of_kind(MessageRehomed)}
    arrived = {e.message_id for e in world.alpha.of_kind(MessageMigrated)}
    homes = [dict(site.homes.rehomed) for site in world.sites.values()]
    is_moved = left <= arrived and homes[0] == homes[1]
    return stored <= settled and is_moved and _profile_of(world.alpha) == _profile_of(world.bravo)


def _profile_of(site: Site) -> set[bytes]:
    topics = ["greeting-recorded", "pin-changed"]
    entries = site.recorder.read_topics(topics, 1, site.recorder.head().position)
    return {entry.plain for entry in entries}


def greeting_is_recorded_once(world: World) -> Findings:
    """Of a PIN nobody can tell whether it is the same again: asked for twice, it is set twice."""
    for site in world.sites.values():
        greetings, pins = len(site.of_kind(GreetingRecorded)), len(site.of_kind(PinChanged))
        if greetings > 1 or pins > 2:
            yield f"{site.id} knows of {greetings} greetings and {pins} PINs"


def servers_know_one_profile(world: World) -> Findings:
    if _profile_of(world.alpha) != _profile_of(world.bravo):
        yield "alpha and bravo know different profiles"


def log_is_whole(site: Site) -> Findings:
    entries = site.entries()
    if [e.position for e in entries] != list(range(1, len(entries) + 1)):
        yield f"the positions of {site.id} have a gap"
    if Frontier().append(leaf_hash(e.plain) for e in entries).root() != site.recorder.head().root:
        yield f"the tree of {site.id} is not that of its events"
    versions = defaultdict(list)
    for entry in entries:
        versions[entry.originator_id].append(entry.originator_version)
    for stream, found in versions.items():
        if found != list(range(1, len(found) + 1)):
            yield f"stream {stream} of {site.id} has the versions {found}"


def nothing_is_forgotten_in_the_spool(site: Site) -> Findings:
    """What lies aside is named by an event, or has its reason beside it."""
    names = site.disk.names
    yield from (f"{site.id} forgot {path.name}" for path in names if path.parent == SPOOL)
    named = {e.place.rpartition("/")[2] for e in site.of_kind(RecordingSetAside)}
    for path in (p for p in names if p.parent == SET_ASIDE and p.suffix == ".zst"):
        if path.name not in named and path.with_suffix(".reason.txt") not in names:
            yield f"nobody knows why {path.name} was set aside"


def what_was_set_aside_is_there(site: Site) -> Findings:
    for event in site.of_kind(RecordingSetAside):
        if event.recorded_by != site.id:
            continue
        inode = site.disk.names.get(DATA / event.place)
        kept = intact_in(bytes(inode.content), site.vault) if inode is not None else b""
        digest = hashlib.sha256(kept).hexdigest()
        if event.is_sealed:
            digest = site.vault.key(event.originator_id).keyed_digest(digest)
        if digest != event.digest:
            yield f"{event.place} is not what {site.id} set aside"


def call_is_decided_once(world: World) -> Findings:
    count = len(world.alpha.of_kind(TransferDecided))
    if count != 1:
        yield f"the call was decided {count} times"


def message_is_stored_once(world: World) -> Findings:
    """The whole one once. Of an upload that broke off, a beginning at most, and marked so."""
    kinds = Counter(
        "recovered" if m.is_recovered and m.audio.size_bytes < len(world.audio) else "whole"
        for m in world.alpha.of_kind(MessageStored)
    )
    if kinds["whole"] > 1 or kinds["recovered"] > 1:
        yield f"stored: {dict(kinds)}"


def message_is_delivered_once_and_at_its_home(world: World) -> Findings:
    for message in world.alpha.of_kind(MessageStored):
        home = world.alpha.homes.name_of_home(message.mailbox)
        places = [site.id for site in world.sites.values() if _is_at_home(site, message)]
        if places != [home]:
            yield f"message {message.message_id} for {home} is at {places}"
        for site in world.sites.values():
            told = [e for e in site.of_kind(MessageDelivered) if e.recorded_by == site.id]
            if len([e for e in told if e.message_id == message.message_id]) > 1:
                yield f"message {message.message_id} was delivered more than once at {site.id}"


def _is_at_home(site: Site, message: MessageStored) -> bool:
    stream = message_stream_id(message.message_id, site.id)
    entries = site.recorder.read_streams([stream]).get(stream, [])
    journey = journey_of(message.message_id, [decode(entry.plain) for entry in entries])
    return journey is not None and journey.stage is Stage.AT_HOME


def receipts_are_true(world: World) -> Findings:
    for event in world.alpha.of_kind(MessageMigrated):
        receipt = event.receipt
        try:
            verify_receipt(receipt, world.bravo.identity.public_key)
        except LedgerError as error:
            yield f"a receipt is not signed: {error}"
        if world.bravo.recorder.root_at(receipt.home_position).hex() != receipt.home_root:
            yield "a receipt is for another log of the home"
        if world.alpha.recorder.root_at(receipt.origin_position).hex() != receipt.origin_root:
            yield "a receipt is for another log of the origin"


def each_message_has_one_receipt(world: World) -> Findings:
    remote = [m.message_id for m in world.alpha.of_kind(MessageStored) if m.home != "alpha"]
    remote += [e.message_id for e in world.alpha.of_kind(MessageRehomed)]
    settled = [e.message_id for e in world.alpha.of_kind(MessageMigrated)]
    if sorted(remote) != sorted(settled):
        yield f"{len(remote)} messages for others, {len(settled)} receipts"


def user_is_heard_once(world: World) -> Findings:
    """What a user did is in the log of the message's home, once."""
    for site in world.sites.values():
        saved = len(site.of_kind(MessageSaved))
        if saved > 1:
            yield f"saved {saved} times by the log of {site.id}"
    if world.alpha.of_kind(MessageSaved) and not world.bravo.of_kind(MessageSaved):
        yield "the home does not know that the message was saved"


def what_is_erased_has_no_key(world: World) -> Findings:
    """And what is not erased has one, wherever the call is told of."""
    for site in world.sites.values():
        calls = {event.originator_id for event in site.of_kind(CallReceived)}
        erased = {event.call_id for event in site.of_kind(CallErased)}
        keys = site.vault.keys(calls | erased)
        for call_id in calls | erased:
            if (keys.get(call_id) is None) != (call_id in erased):
                yield f"{site.id} has {keys.get(call_id)} for call {call_id}, erased: {erased}"


async def _sound_is_whole(world: World, site: Site) -> AsyncFindings:
    stored = {m.message_id: m for m in site.of_kind(MessageStored)}
    erased = {event.call_id for event in site.of_kind(CallErased)}
    for event in site.of_kind(MessageDelivered):
        message = stored[event.message_id]
        if event.call_id in erased:
            continue
        try:
            sound = await site.ask(site.server.read_audio(message.blob))
        except LedgerError as error:
            yield f"{site.id} cannot play message {event.message_id}: {error}"
            continue
        if not is_sound_of(message, sound, site.vault) or not (
            world.audio.startswith(sound) if message.is_recovered else sound == world.audio
        ):
            yield f"{site.id} plays another sound for message {event.message_id}"


async def _profile_is_whole(world: World, site: Site) -> AsyncFindings:
    """What a server's log says of the mailbox, it can play and check."""
    state = await site.ask(site.server.parts.mailboxes.get(OWN_MAILBOX))
    greeting = state.greeting(GreetingKind.UNAVAILABLE)
    try:
        if greeting is not None:
            sound = await site.ask(site.server.read_audio(greeting.blob))
            if sound != world.audio:
                yield f"{site.id} plays another greeting"
        if state.pin is not None and not await site.ask(site.server.check_pin(OWN_MAILBOX, PIN)):
            yield f"{site.id} does not know the PIN"
    except LedgerError as error:
        yield f"{site.id} has not got what its log says of the mailbox: {error}"


SITE_CHECKS = (log_is_whole, nothing_is_forgotten_in_the_spool, what_was_set_aside_is_there)
WORLD_CHECKS = (
    call_is_decided_once,
    message_is_stored_once,
    message_is_delivered_once_and_at_its_home,
    receipts_are_true,
    each_message_has_one_receipt,
    user_is_heard_once,
    greeting_is_recorded_once,
    servers_know_one_profile,
    what_is_erased_has_no_key,
)


def describe(world: World, known_events: int) -> str:
    """Say in a few words what a crash left: in the spool, among the blobs, in the log."""
    site = world.crashing
    parts = [_spool(site, world.audio), *_blobs(site)]
    topics = [e.topic for e in site.entries()[known_events:]]
    parts.append("log: " + (", ".join(f"`{topic}`" for topic in topics) or "nothing new"))
    return "; ".join(part for part in parts if part)


def _spool(site: Site, audio: bytes) -> str:
    words = []
    for path, inode in site.disk.names.items():
        if path.parent == SPOOL and path.suffix == ".zst":
            received = intact_in(bytes(inode.content), site.vault)
            words.append(
                "nothing heard" if not received else "all" if received == audio else "a part"
            )
        elif path.parent == SET_ASIDE and path.suffix in (".zst", ".torn"):
            words.append("a recording aside" if path.suffix == ".zst" else "the torn tail aside")
    return f"spool: {', '.join(sorted(words))}" if words else ""


def _blobs(site: Site) -> Iterator[str]:
    folders = Counter(path.parent.name for path in site.disk.names if SPOOL not in path.parents)
    packs, temporary = folders.pop("packs", 0), folders.pop("tmp", 0)
    if temporary:
        yield "a temporary blob"
    if packs:
        yield "a pack"
    if folders.total():
        yield "the blob"
