"""What must hold after a run, whatever happened in it.

Each checker looks at the disks that are left, never at what a process believes, and gives a
sentence for everything that is wrong.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from ledger.errors import CorruptionError, LedgerError, NotFoundError, PeerError
from ledger.events import (
    CallErased,
    GreetingRecorded,
    MessageDelivered,
    MessageStored,
    PinChanged,
)
from ledger.mailbox import GreetingKind, mailbox_of
from ledger.migration.receipts import verify_receipt
from ledger.pin import matches, read_verifier
from ledger.sealing import MessageKey
from ledger.storage.merkle import Frontier, leaf_hash
from ledger.storage.sealed_form import is_sealed
from ledger.storage.stored_form import decode as decode_stored_form
from ledger.storage.vault import Vault
from projections.mailboxes import MESSAGE
from projections.replay import replay_mailboxes
from tests.simulation.callers import homes_know_who_called, nobody_is_named_in_a_log
from tests.simulation.cosignatures import no_history_changes_unseen, witnesses_signed_what_was
from tests.simulation.logs import event_of, profiles_of
from tests.simulation.mirrors import (
    copies_equal_their_logs,
    copies_hold_what_was_sent,
    lagging_copies,
)
from tests.simulation.people import PINS
from tests.simulation.remains import Remains
from tests.simulation.server import Machine
from tests.simulation.sounds import call_of, heard_in, intact_in, is_sound_of
from tests.simulation.tables import tables_equal_replay

if TYPE_CHECKING:
    from tests.simulation.promises import AcceptedCall
    from tests.simulation.world import World

Findings = Iterator[str]


def check_all(world: Any, checkers: Sequence[Callable[[Any], Findings]]) -> list[str]:
    """Ask every checker; gives what each found wrong, with the checker's name."""
    found = []
    for checker in checkers:
        name = checker.__name__.replace("_", " ")
        try:
            found += [f"{name}: {finding}" for finding in checker(world)]
        except Exception as error:
            found.append(f"{name}: what it looks at makes no sense: {error!r}")
    return found


def promises_during_the_run(world: World) -> Findings:
    yield from world.told.broken


def everything_settles(world: World) -> Findings:
    """Nothing stays on its way to a home that is there."""
    if world.settled_at_s is None:
        waiting = {n: v for n in world.machines if (v := world.view(n).waiting())}
        down = [n for n in world.machines if world.listener(n) is None]
        behind = lagging_copies(world)
        yield (
            f"not settled: waiting {waiting}, not serving {down}, "
            f"missing {list(missing(world))}, behind {behind}"
        )


def missing(world: World) -> list[UUID]:
    arrived = {call for name in world.machines for call in world.view(name).delivered_calls}
    return [call for call in world.told.accepted if call not in arrived]


def nothing_was_delivered_twice(world: Remains) -> Findings:
    """No message, and no call's recording under two names."""
    messages: defaultdict[UUID, list[str]] = defaultdict(list)
    recordings: Counter[tuple[UUID, str]] = Counter()
    may_repeat = set[UUID]()
    for name in world.machines:
        view = world.view(name)
        for message_id in view.delivered_again:
            yield f"message {message_id} was delivered at {name} although it was there"
        for _, event in view.delivered:
            messages[event.message_id].append(name)
            recordings[event.call_id, view.stored[event.message_id].audio.digest] += 1
            # A log that went back has forgotten the message that a repeated upload already became.
            took = world.told.accepted.get(event.call_id)
            if took is None or world.told.went_back(took.call.server):
                may_repeat.add(event.call_id)
    moved_and_revived = _moved_and_revived(world)
    # What is erased is not handed on: a home that went back may keep it, erased as it is.
    moved_and_revived |= {
        m.message_id for call_id in world.told.erased for m in _messages_of(world, call_id)
    }
    for message_id, names in messages.items():
        if len(names) > 1 and message_id not in moved_and_revived:
            yield f"message {message_id} is at {len(names)} homes"
    for (call_id, _), count in recordings.items():
        ids = {m.message_id for m in _messages_of(world, call_id)}
        if count > 1 and call_id not in may_repeat and not ids <= moved_and_revived:
            yield f"the recording of call {call_id} was delivered {count} times"


def _messages_of(world: Remains, call_id: UUID) -> list[MessageStored]:
    views = [world.view(name) for name in world.machines]
    return [m for view in views for m in view.stored.values() if m.originator_id == call_id]


def _moved_and_revived(world: Remains) -> set[UUID]:
    """Messages whose mailbox moved while who knew them as delivered was of another history.

    Either a log that went back took the repeated upload of a call whose message had been delivered,
    and was the mailbox's home by then. Or nobody had more of a lost server's log than a former
    history, in which it has what was delivered elsewhere since.
    """
    found = set[UUID]()
    for accepted in world.told.accepted.values():
        if len(_homes(world, accepted)) < 2:
            continue
        for message in _messages_of(world, accepted.call_id):
            names = [
                n for n in world.machines if message.message_id in world.view(n).ever_delivered
            ]
            is_repeated = world.told.went_back(accepted.call.server)
            if is_repeated or world.told.revived & set(names):
                found.add(message.message_id)
    return found


def every_accepted_message_arrived(world: Remains) -> Findings:
    """At its home or, when the mailbox moved, at one that it had."""
    places: defaultdict[UUID, list[str]] = defaultdict(list)
    for name in world.all_machines:
        for _, event in world.view(name).delivered:
            places[event.message_id].append(name)
    for accepted in world.told.accepted.values():
        message_id = accepted.message.message_id
        names = places[message_id] or _same_recording(world, accepted)
        if not names and not _is_excused(world, accepted):
            yield f"message {message_id} taken by {accepted.call.server} is nowhere delivered"
        for name in names:
            if name not in _homes(world, accepted):
                yield f"message {message_id} was delivered at {name}, which is not its home"


def _homes(world: Remains, accepted: AcceptedCall) -> set[str]:
    moved = {home for extension, home in world.told.moves if extension == accepted.call.extension}
    return {accepted.message.home, *moved} | {
        home for layout in world.layouts_used for home in [layout.home_of(accepted.call.extension)]
    }


def _same_recording(world: Remains, accepted: AcceptedCall) -> list[str]:
    """The call's own recording under another id: a switch repeated itself after a restore."""
    return [
        name
        for name in world.machines
        for _, event in world.view(name).delivered
        if event.call_id == accepted.call_id
        and (stored := world.view(name).stored.get(event.message_id)) is not None
        and is_sound_of(stored, accepted.call.audio, world.machines[name].vault)
    ]


def _is_excused(world: Remains, accepted: AcceptedCall) -> bool:
    """Is its loss no fault, or shown to the operator?"""
    if accepted.call_id in world.told.lost_with_its_disk | world.told.erased:
        return True
    if f"{accepted.call.extension}@default" in world.words_lost():
        return True
    for name in world.left:
        # Who gave it to a home that went back was taken out of the configuration: nobody knows.
        given = world.view(name).migrated.get(accepted.message.message_id, ())
        if any(world.told.went_back(migrated.home) for migrated in given):
            return True
    for name in world.machines:
        refused = world.view(name).refused.get(accepted.message.message_id)
        if refused is None:
            continue
        is_twice = world.told.went_back(accepted.call.server) or world.told.moves
        if refused.reason == "conflict" and world.told.restored and is_twice:
            return True  # its call was told in two ways by a log that went back
        blob = world.view(name).stored[refused.message_id].blob
        if refused.reason in ("audio-corrupt", "audio-missing"):
            return world.machines[name].is_rotten(blob)
    return False


def every_message_has_its_sound(world: Remains) -> Findings:
    """Bit for bit; damage is excused only where a disk rotted, and must be noticed there."""
    expected = {a.message.message_id: a.call.audio for a in world.told.accepted.values()}
    for name, machine in world.machines.items():
        for _, event in world.view(name).delivered:
            stored = world.view(name).stored[event.message_id]
            if event.call_id in world.told.erased:
                continue  # see `what_is_erased_stays_so`
            try:
                sound = heard_in(machine.read_blob(stored.blob), machine.vault)
            except LedgerError as error:
                is_named = stored.blob in machine.named_missing
                if not machine.is_rotten(stored.blob) and not (is_named and world.told.rotted):
                    yield f"{name} shows message {event.message_id} without sound: {error}"
                continue
            if event.message_id in world.told.poison and event.origin == name:
                continue  # it came home by itself: nobody else was to be kept from it
            wanted = expected.get(event.message_id)
            is_right = is_sound_of(stored, sound, machine.vault)
            if not is_right or (wanted is not None and sound != wanted):
                yield f"{name} plays another sound for message {event.message_id}"


def what_is_erased_stays_so(world: Remains) -> Findings:
    """Where a log tells that a call is erased its key is gone, and whoever is told knows it."""
    for name, call_id in world.untold_erasures():
        yield f"{name} was not told that call {call_id} is erased"
    for name, machine in world.all_machines.items():
        copies = [kept.image for kept in getattr(machine, "copies", {}).values()]
        for image in (machine.image, *copies):
            calls = [event_of(e) for e in image.entries if e.topic == "call-erased"]
            for event in calls:
                assert isinstance(event, CallErased)
                if image.keys.get(event.call_id, b"") is not None:
                    yield f"{name} has the key of call {event.call_id}, which is erased"


def no_recording_lies_open(world: Remains) -> Findings:
    """Every message's recording is sealed, in its events and on every disk."""
    for name, machine in world.machines.items():
        for message in world.view(name).stored.values():
            if not message.is_sealed and message.message_id not in world.told.poison:
                yield f"message {message.message_id} of {name} is not sealed"
        for digest, stored in machine.loose_blobs():
            if not is_sealed(stored) and call_of(stored) not in world.told.no_calls:
                yield f"blob {digest} on {name} can be heard without a key"


def every_call_has_its_key(world: World) -> Findings:
    """Wherever it is told of, also after a recovery, and it can be unwrapped."""
    for name, machine in world.machines.items():
        calls = [e.originator_id for e in machine.image.entries if e.topic == "call-received"]
        for call_id in set(calls) - machine.vault.keys(calls).keys():
            yield f"{name} has call {call_id} and no key of it"


def damage_is_noticed(world: Remains) -> Findings:
    """Whatever a server gives for a blob of its messages or mailboxes has that blob's digest."""
    for name, machine in world.machines.items():
        states = profiles_of(machine.image).values()
        greetings = (state.greeting(kind) for state in states for kind in GreetingKind)
        blobs = {message.blob for message in world.view(name).stored.values()}
        blobs |= {greeting.blob for greeting in greetings if greeting is not None}
        for blob in sorted(blobs):
            try:
                found = hashlib.sha256(machine.read_blob(blob)).hexdigest()
            except LedgerError:
                continue  # it was noticed, or is not here
            if found != blob:
                yield f"{name} gives damaged bytes for blob {blob} as if they were whole"


def custody_is_with_one_server(world: Remains) -> Findings:
    """Origin and home agree about who answers for each message."""
    for name in world.machines:
        view = world.view(name)
        for message_id in world.lost_at_home(view):
            call_id = view.stored[message_id].originator_id
            if call_id not in world.told.lost_with_its_disk | world.told.erased:
                yield f"{name} holds a receipt for {message_id}, which is not at its home"
        for message_id in view.waiting():
            for home in world.machines.keys() - {name}:
                if any(e.message_id == message_id for _, e in world.view(home).delivered):
                    yield f"{name} still waits for {home}, which has message {message_id}"


def receipts_are_signed_and_true(world: Remains) -> Findings:
    for name in world.machines:
        for event, sent_at in world.view(name).receipts:
            receipt = event.receipt
            try:
                home = world.all_machines[event.home]
                verify_receipt(receipt, home.identity.public_key, home.verify)
            except PeerError as error:
                yield f"{name} recorded a receipt that is not signed: {error}"
            if (receipt.origin, receipt.home) != (name, event.home):
                yield f"{name} recorded a receipt for others"
            logs = world.logs_of(event.home)
            if not _is_root_of(logs, receipt.home_position, receipt.home_root):
                yield f"{name} holds a receipt for another log of {event.home}"
            if receipt.origin_position < sent_at:
                yield f"{name} holds a receipt for {event.message_id} from before it was sent"
            own = [world.machines[name].image] if sent_at else world.logs_of(name)
            if not _is_root_of(own, receipt.origin_position, receipt.origin_root):
                yield f"{name} holds a receipt for another log than its own"


def _is_root_of(logs: Sequence[Any], position: int, root: str) -> bool:
    """Does one of these logs have this root there?"""
    return any(
        position < len(image.frontiers) and image.frontiers[position].root().hex() == root
        for image in logs
    )


_SHIPPED_BY = frozenset({"message-stored", "message-rehomed", "message-requeued"})
"""What a message is shipped by: the last event of the parcel that it travels with."""


def messages_arrive_in_order(world: Remains) -> Findings:
    """In the order of their origin's log, unless they were held, moved or sent again.

    A log that went back has other events at the same positions: its order is its own.
    """
    for name in world.machines:
        last: dict[tuple[str, int], int] = {}
        for _, event in world.view(name).delivered:
            if event.origin == name or _went_another_way(world, event, name):
                continue
            logs = world.logs_of(event.origin)
            sender = next((n for n, image in enumerate(logs) if _shipped(image, event)), None)
            if sender is None:
                yield f"{name} got message {event.message_id}, which {event.origin} never shipped"
                continue
            if event.origin_position <= last.get((event.origin, sender), 0):
                yield f"{name} got message {event.message_id} of {event.origin} out of order"
            last[event.origin, sender] = event.origin_position


def _shipped(image: Any, event: MessageDelivered) -> bool:
    """Is it this log that says at the position given that the message is shipped?"""
    trigger = image.entries[event.origin_position - 1 :][:1]
    return (
        bool(trigger)
        and trigger[0].topic in _SHIPPED_BY
        and event_of(trigger[0]).message_id == event.message_id
    )


def _went_another_way(world: Remains, event: MessageDelivered, home: str) -> bool:
    """Was it refused first, did its mailbox move, or did late frames tell a log that went back?"""
    extension = event.mailbox.partition("@")[0]
    if world.is_moved_by_file(extension) or any(one == extension for one, _ in world.told.moves):
        return True
    if (event.origin, home) in world.told.echoed and world.told.went_back(home):
        return True
    if event.message_id in world.view(event.origin).ever_refused:
        return True
    return world.told.went_back(event.origin) and any(
        entry.topic == "migration-refused" and event_of(entry).message_id == event.message_id
        for image in world.logs_of(event.origin)
        for entry in image.entries
    )


def incarnations_are_few(world: Remains) -> Findings:
    """A log that went back begins anew; two servers of one name do not drive each other on."""
    for name in world.machines:
        began = {
            event_of(entry).incarnation
            for image in world.logs_of(name)
            for entry in image.entries
            if entry.topic == "incarnation-started" and entry.origin is None
        }
        past = sum(who == name for _, who in world.told.restored)
        most = 2 * past + 2 if past else 0
        if len(began) > most:
            yield f"{name} began {len(began)} incarnations, at most {most} expected"


def logs_are_whole(world: Remains) -> Findings:
    """Positions without a gap, streams without a gap, and the tree over all of it."""
    for name, machine in world.machines.items():
        image = machine.image
        frontier = Frontier().append(leaf_hash(e.plain) for e in image.entries)
        if [e.position for e in image.entries] != list(range(1, len(image.entries) + 1)):
            yield f"the positions of {name} have a gap"
        if frontier.root() != image.head.frontier.root():
            yield f"the tree of {name} is not that of its events"
        for stream, entries in image.streams.items():
            if sorted(e.originator_version for e in entries) != list(range(1, len(entries) + 1)):
                yield f"stream {stream} of {name} has a gap"


def events_travel_byte_for_byte(world: Remains) -> Findings:
    for name, machine in world.machines.items():
        for entry in machine.image.entries:
            if entry.origin is None:
                continue
            position = entry.origin_position
            assert position is not None
            logs = world.logs_of(entry.origin)
            told = (image.entries[position - 1 : position] for image in logs)
            if all(one[0].plain != entry.plain for one in told if one):
                yield f"position {entry.position} of {name} is not what {entry.origin} wrote"


def actions_are_known_at_home(world: Remains) -> Findings:
    """What a user was told is recorded is in the log of the message's home."""
    yield from world.unknown_actions()


def mailboxes_have_one_home(world: Remains) -> Findings:
    """All logs name the same home and epoch, and every message of the mailbox is there."""
    for mailbox in world.homes_in_doubt():
        views = {name: world.view(name).homes.get(mailbox) for name in world.machines}
        yield f"mailbox {mailbox} has different homes: {views}"
    for name, message_id in world.left_behind():
        yield f"message {message_id} was left behind at {name}"
    for name, machine in world.machines.items():
        homes = machine.believed_homes()
        if homes is None:
            continue
        for mailbox, (epoch, home) in world.view(name).homes.items():
            believed = homes.rehomed.get(mailbox)
            if believed is None or (believed.epoch, believed.home) != (epoch, home):
                yield f"{name} acts by another home of {mailbox} than its log names"


def profiles_are_the_same_everywhere(world: Remains) -> Findings:
    """Every server knows every greeting and PIN, and the same ones count for each."""
    yield from world.unknown_profiles()
    doubt = _mailboxes_in_doubt(world)
    seen = {name: _what_counts(machine, doubt) for name, machine in world.machines.items()}
    first, *others = seen
    for name in others:
        if seen[name] != seen[first]:
            yield f"{first} and {name} have other profiles: {seen[first]} and {seen[name]}"


def _mailboxes_in_doubt(world: Remains) -> set[str]:
    """Mailboxes of which somebody told who went back or left, or whose sound is damaged."""
    found = set()
    for name in world.machines:
        for entry in world.view(name).profile_events.values():
            event = event_of(entry)
            mailbox = mailbox_of(event) or ""
            teller = getattr(event, "recorded_by", "")
            is_gone = teller not in world.machines or world.told.went_back(teller)
            if is_gone or world.is_profile_in_doubt(mailbox, entry.originator_id):
                found.add(mailbox)
    return found


def _what_counts(machine: Machine, doubt: Collection[str]) -> dict[str, object]:
    return {
        mailbox: (
            state.home,
            state.epoch,
            {k.value: g.blob for k in GreetingKind if (g := state.greeting(k)) is not None},
            state.pin.verifier if state.pin is not None else None,
        )
        for mailbox, state in profiles_of(machine.image).items()
        if mailbox not in doubt
    }


def profiles_can_be_played_and_checked(world: Remains) -> Findings:
    """Every server has the sound of each greeting that counts, and what each PIN is checked by.

    Where that of the newest PIN rotted, a server may know only of an older one: what that one was
    checked against is thrown away everywhere. What no disk has any more is lost.
    """
    verifiers = _verifiers(world)
    for name, machine in world.machines.items():
        for mailbox, state in profiles_of(machine.image).items():
            if world.is_moved_by_file(mailbox.partition("@")[0]):
                continue
            for kind in GreetingKind:
                greeting = state.greeting(kind)
                if greeting is None or _is_damaged(world, greeting.blob):
                    continue
                if not _is_greeting(machine, greeting) and not _is_lost(world, greeting):
                    yield f"{name} cannot play the greeting of {mailbox}"
            if state.pin is None or any(_is_damaged(world, v) for v in verifiers[mailbox]):
                continue
            if not _is_checked(machine, state.pin) and not _is_lost(world, state.pin):
                yield f"{name} cannot check the PIN of {mailbox}"


def _verifiers(world: Remains) -> Mapping[str, set[str]]:
    """Give what the PIN of each mailbox is checked against, as any server knows it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for machine in world.machines.values():
        for mailbox, state in profiles_of(machine.image).items():
            if state.pin is not None and state.pin.verifier is not None:
                found[mailbox].add(state.pin.verifier)
    return found


def _is_lost(world: Remains, event: GreetingRecorded | PinChanged) -> bool:
    """Was it recalled from a server that went back itself before it gave what the event names?"""
    blob = event.blob if isinstance(event, GreetingRecorded) else event.verifier or ""
    is_anywhere = any(_content_of(machine, blob) for machine in world.machines.values())
    return world.told.went_back(event.recorded_by) and not is_anywhere


def _is_damaged(world: Remains, blob: str) -> bool:
    """Did a bit flip in it, or where it could have come from?"""
    return any(machine.is_rotten(blob) for machine in world.machines.values())


def _is_greeting(machine: Machine, greeting: GreetingRecorded) -> bool:
    sound = _content_of(machine, greeting.blob)
    return sound is not None and hashlib.sha256(sound).hexdigest() == greeting.audio.digest


def _is_checked(machine: Machine, changed: PinChanged) -> bool:
    document = _content_of(machine, changed.verifier or "")
    if document is None:
        return False
    verifier = read_verifier(document, machine.id)
    return sum(matches(verifier, pin) for pin in PINS) == 1


def _content_of(machine: Machine, blob: str) -> bytes | None:
    try:
        return decode_stored_form(machine.read_blob(blob))
    except LedgerError:
        return None


def nothing_is_left_in_the_spool(world: Remains) -> Findings:
    """Every recording became a message or lies where a person finds it."""
    for name, machine in world.machines.items():
        for path in sorted(machine.recordings_in_spool()):
            yield f"{name} forgot {path.name} in its spool"


def no_voice_vanishes(world: Remains) -> Findings:
    """What was in a spool when a process died is in a message or set aside, to its last byte."""
    for at_s, name, call_id, received in world.told.spooled:
        machine = world.all_machines[name]
        if world.told.went_back(name, at_s) or (name, call_id) in world.told.rotted:
            continue
        if call_id in world.told.erased:
            continue
        sounds = [*_sounds_of_call(world, name, call_id), *_set_aside(machine)]
        if not any(sound.startswith(received) for sound in sounds):
            yield f"{len(received)} bytes of call {call_id} vanished from the spool of {name}"


def no_voice_is_only_in_a_nameless_blob(world: Remains) -> Findings:
    """A blob that no event names is dropped some day: its sound must be elsewhere too."""
    for name, machine in world.machines.items():
        named = {message.blob for message in world.view(name).stored.values()}
        for digest, stored in machine.loose_blobs():
            if digest in named:
                continue
            call_id = call_of(stored)
            if (name, call_id) in world.told.rotted or call_id in world.told.erased:
                continue
            vault = _vault_with_key(world, name, call_id)
            sound = intact_in(stored, vault)
            sounds = [*_sounds_of_call(world, name, call_id), *_set_aside(machine)]
            if call_id in world.told.lost_with_its_disk | world.told.erased:
                continue  # recalled while the log that was asked went back as well
            if call_id in world.told.no_calls or _is_recalled(world, name, call_id, sound, vault):
                continue
            if not any(other.startswith(sound) for other in sounds):
                yield f"the recording of call {call_id} on {name} is in no message"


def _vault_with_key(world: Remains, name: str, call_id: UUID) -> Vault:
    """Give this server's keys, or another's, if it is to get that call's back yet."""
    vaults = [world.machines[name].vault, *(m.vault for m in world.machines.values())]
    having = (v for v in vaults if isinstance(v.find([call_id]).get(call_id), MessageKey))
    return next(having, vaults[0])


def _is_recalled(world: Remains, name: str, call_id: UUID, sound: bytes, vault: Vault) -> bool:
    """Did a log that went back recall the message with this sound, or just its sound so far?"""
    views = [world.view(one) for one in world.machines]
    messages = (message for view in views for message in view.stored.values())
    of_call = (m for m in messages if m.originator_id == call_id)
    return world.told.went_back(name) and any(is_sound_of(m, sound, vault) for m in of_call)


def _sounds_of_call(world: Remains, name: str, call_id: UUID) -> Iterator[bytes]:
    machine = world.all_machines[name]
    for message in world.view(name).stored.values():
        if message.originator_id == call_id and not machine.is_rotten(message.blob):
            # What its home holds safely may be collected here.
            holders = [machine, *(m for m in world.machines.values() if m is not machine)]
            found = ((m, b) for m in holders if (b := _blob_at(m, message.blob)))
            holder, stored = next(found, (machine, None))
            if stored is not None:
                yield heard_in(stored, holder.vault)
            elif not world.told.went_back(name):
                raise NotFoundError(f"the sound of message {message.message_id} is nowhere")


def _blob_at(machine: Machine, blob: str) -> bytes | None:
    try:
        return machine.read_blob(blob)
    except (NotFoundError, CorruptionError):
        return None


def _set_aside(machine: Machine) -> Iterator[bytes]:
    for stored in machine.recordings_set_aside():
        yield intact_in(stored, machine.vault)


def mailboxes_list_each_message_once(world: Remains) -> Findings:
    """Replayed from nothing, the mailboxes of all servers together list each message once."""
    if not world.replays_mailboxes:
        return
    listed: Counter[UUID] = Counter()
    for name, machine in world.machines.items():
        state = replay_mailboxes(machine.reader, name)
        listed.update(e.message_id for e in state.all(MESSAGE) if e.is_listed)
    moved_and_revived = _moved_and_revived(world)
    for message_id, count in listed.items():
        if count > 1 and message_id not in moved_and_revived:
            yield f"message {message_id} is listed on {count} servers"
    delivered = {
        e.message_id
        for n in world.machines
        for _, e in world.view(n).delivered
        if e.call_id not in world.told.erased
    }
    for message_id in delivered - listed.keys():
        yield f"message {message_id} was delivered and is listed nowhere"


def tables_equal_their_replay(world: World) -> Findings:
    """Asked of few runs: to build tables takes longer than to run a world."""
    if world.seed % 200 == 7:
        for name, machine in world.machines.items():
            if not tables_equal_replay(machine):
                yield f"the tables of {name} are not what its log says"


def servers_do_not_storm(world: World) -> Findings:
    """When all is quiet only the idle probes are left; and no run needs many more than that.

    A server that hears only then that its log went back, or only then gets some of it back, asks
    every other one what it is missing, and tells it what it has.
    """
    pairs = len(world.machines) * (len(world.machines) - 1)
    most = pairs * 5 * (1 + world.recovered_since_settled)
    if world.sent_while_quiet > most:
        yield f"{world.sent_while_quiet} requests while all was quiet, at most {most} expected"
    pairs = len(world.all_machines) * (len(world.all_machines) - 1)
    most = round(pairs * (60 + world.now_s) + 30 * len(world.told.accepted))
    if world.network.sent > most:
        yield f"{world.network.sent} requests in {world.now_s:.0f} s, at most {most} expected"


ON_STORES: Final[tuple[Callable[[Remains], Findings], ...]] = (
    nothing_was_delivered_twice,
    every_accepted_message_arrived,
    every_message_has_its_sound,
    damage_is_noticed,
    custody_is_with_one_server,
    receipts_are_signed_and_true,
    messages_arrive_in_order,
    incarnations_are_few,
    logs_are_whole,
    events_travel_byte_for_byte,
    actions_are_known_at_home,
    mailboxes_have_one_home,
    profiles_are_the_same_everywhere,
    profiles_can_be_played_and_checked,
    nothing_is_left_in_the_spool,
    no_voice_vanishes,
    no_voice_is_only_in_a_nameless_blob,
    mailboxes_list_each_message_once,
    nobody_is_named_in_a_log,
)
"""What can be asked of any stores: also of those that real servers left."""

CHECKERS: Final[tuple[Callable[[World], Findings], ...]] = (
    promises_during_the_run,
    everything_settles,
    *ON_STORES,
    every_call_has_its_key,
    what_is_erased_stays_so,
    no_recording_lies_open,
    tables_equal_their_replay,
    homes_know_who_called,
    copies_equal_their_logs,
    copies_hold_what_was_sent,
    witnesses_signed_what_was,
    no_history_changes_unseen,
    servers_do_not_storm,
)
