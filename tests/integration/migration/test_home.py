"""What a home accepts, refuses and keeps, asked directly with hand-made batches."""

import asyncio
import hashlib
import os
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
import pytest

from ledger.caller import CallerState
from ledger.events import (
    BackupVerified,
    MailboxOpened,
    MessageDelivered,
    MessageHeard,
    MessageMigrated,
    MessageStored,
    MigrationRefused,
    PinChanged,
    decode,
    encode,
)
from ledger.ids import server_stream_id
from ledger.migration.link import Route
from ledger.migration.travelling_keys import seal_found
from ledger.migration.wire import (
    Accepted,
    BatchHeader,
    BlobEntry,
    ContactAnswer,
    ContactRequest,
    Gap,
    Parcel,
    Rejected,
    WireEvent,
)
from ledger.migration.wire_bytes import decode_answer, decode_batch, encode_batch, encode_request
from ledger.storage.event_log import Append, LogEntry
from ledger.storage.merkle import EMPTY_ROOT
from ledger.storage.peer_cursors import HomeMark
from ledger.storage.vault import FoundKey
from tests.support.sites import CALLER, START, Site, eventually, make_sites, run

INCARNATION = UUID(int=77)


async def call_at(alpha: Site, extension: str = "2001", audio: bytes = b"hello") -> list[LogEntry]:
    message = await alpha.take_call(extension, audio, home="bravo")
    return alpha.disk.recorder.read_streams([message.originator_id])[message.originator_id]


async def only(*names: str) -> list[Site]:
    """Make sites whose shipping never reaches anybody: the tests send by hand."""
    sites = make_sites(names or ("alpha", "bravo"))
    for site in sites.values():
        await site.start()
        for link in site.links.values():
            link.is_cut = True
    await contact(sites["bravo"])
    return list(sites.values())


def parcel_of(entries: list[LogEntry], **changes: Any) -> Parcel:
    events = [(e.position, e.plain) for e in entries]
    blob = msgspec.json.decode(entries[-1].plain).get("blob")
    fields = {"position": events[-1][0], "blobs": (blob,) if blob else ()} | changes
    return Parcel(events=tuple(WireEvent(p, msgspec.Raw(d)) for p, d in events), **fields)


def parcel_call(parcel: Parcel) -> UUID:
    return decode(bytes(parcel.events[0].plain)).originator_id


async def send(
    alpha: Site,
    bravo: Site,
    parcels: list[Parcel],
    *,
    blobs: dict[str, bytes] | None = None,
    sender: str = "alpha",
    **changes: Any,
) -> Any:
    if blobs is None:
        wanted = dict.fromkeys(d for p in parcels for d in p.blobs)
        blobs = {d: alpha.disk.blobs.loose[d][0] for d in wanted}
    fields = {
        "origin": "alpha",
        "home": "bravo",
        "incarnation": INCARNATION,
        "contact": "n",
        "after_position": 0,
        "after_root": EMPTY_ROOT.hex(),
        "through_position": max((p.position for p in parcels), default=1),
        "through_root": "a" * 64,
        "keys": sealed_for(bravo, alpha.vault.find(_calls_in(parcels))),
    } | changes
    header = BatchHeader(
        parcels=tuple(parcels),
        blobs=tuple(BlobEntry(d, len(b)) for d, b in blobs.items()),
        **fields,
    )
    body = encode_batch(header, list(blobs.values()))
    return decode_answer(await bravo.receiver.handle(sender, Route.BATCH, body), "bravo")


def sealed_for(site: Site, keys: Mapping[UUID, FoundKey]) -> bytes:
    return seal_found(keys, "alpha", site.directory.own, os.urandom)


def _calls_in(parcels: list[Parcel]) -> set[UUID]:
    plains = (msgspec.json.decode(e.plain) for parcel in parcels for e in parcel.events)
    return {UUID(plain["originator_id"]) for plain in plains}


async def contact(bravo: Site, *marks: HomeMark) -> ContactAnswer:
    request = ContactRequest(
        origin="alpha", home="bravo", incarnation=INCARNATION, position=9, nonce="n", marks=marks
    )
    body = encode_request(request)
    answer = decode_answer(await bravo.receiver.handle("alpha", Route.CONTACT, body), "bravo")
    assert isinstance(answer, ContactAnswer)
    return answer


def changed(entry: LogEntry, **fields: Any) -> LogEntry:
    """Give the entry with other values in its JSON."""
    document = msgspec.json.decode(entry.plain) | fields
    return msgspec.structs.replace(entry, plain=msgspec.json.encode(document))


async def refusal(entries: list[LogEntry], **sending: Any) -> str:
    alpha, bravo = await only()
    before = bravo.disk.recorder.head().position
    answer = await send(alpha, bravo, [parcel_of(entries)], blobs={}, **sending)
    assert isinstance(answer, Accepted)
    assert bravo.disk.recorder.head().position == before, "nothing refused is kept"
    [refused] = answer.refusals
    return refused.reason


def refused_for(change) -> str:
    async def main():
        alpha, _ = await only()
        return await refusal(change(await call_at(alpha)))

    return run(main())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda es: [*es[:2], changed(es[2], mailbox="1001@default")], "not-my-mailbox"),
        (lambda es: [*es[:2], changed(es[2], mailbox="9001@default")], "not-my-mailbox"),
        (lambda es: [*es[:2], changed(es[2], mailbox="a@b@c")], "bad-events"),
        (lambda es: [*es[:2], changed(es[2], home="charlie")], "not-my-mailbox"),
        (lambda es: [es[0], es[2]], "bad-events"),
        (lambda es: [es[1], es[2]], "bad-events"),
        (lambda es: [es[0], changed(es[1], originator_id=str(UUID(int=5))), es[2]], "bad-events"),
        (lambda es: [*es[:2], changed(es[2], blob_size_bytes="many")], "bad-events"),
        (lambda es: [*es[:2], changed(es[2], v=3)], "unknown-topic"),
        (lambda es: [changed(es[0], event="new-thing")], "unknown-topic"),
        (lambda es: [es[0], changed(es[1], event="new\0thing"), es[2]], "bad-events"),
        (lambda es: es, "audio-missing"),
    ],
)
def test_parcel_that_breaks_a_rule_is_refused_with_its_reason(change, reason):
    assert refused_for(change) == reason


def with_duration(duration_ms: int):
    def change(entries: list[LogEntry]) -> list[LogEntry]:
        audio = msgspec.json.decode(entries[-1].plain)["audio"]
        audio |= {"duration_ms": duration_ms}
        return [*entries[:-1], changed(entries[-1], audio=audio)]

    return change


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1], ids=["too large", "too small"])
def test_number_that_no_database_holds_is_refused(number: int):
    """A read model would stop at it for ever, and show no later message either."""
    assert refused_for(with_duration(number)) == "bad-events"


def test_word_of_a_message_that_its_call_has_not_stored_is_refused():
    """The read model of mailboxes would stop at it for ever."""

    def change(entries: list[LogEntry]) -> list[LogEntry]:
        call, decided, stored = entries
        heard = MessageHeard(
            originator_id=call.originator_id,
            originator_version=3,
            recorded_at=START,
            recorded_by="alpha",
            message_id=UUID(int=9),
            by="ann",
        )
        told = msgspec.structs.replace(stored, plain=encode(heard))
        last = msgspec.structs.replace(stored, position=stored.position + 1)
        return [call, decided, told, changed(last, originator_version=4)]

    assert refused_for(change) == "bad-events"


def test_events_that_only_their_own_server_may_write_are_not_taken():
    async def main():
        alpha, bravo = await only()
        entries = await call_at(alpha)
        forged = MessageDelivered(
            originator_id=entries[0].originator_id,
            originator_version=4,
            recorded_at=START,
            recorded_by="alpha",
            message_id=UUID(int=1),
            call_id=UUID(int=2),
            mailbox="2001@default",
            origin="alpha",
            origin_position=0,
        )
        last = LogEntry(9, forged.originator_id, 4, forged.topic, encode(forged), None, None)
        answer = await send(alpha, bravo, [parcel_of([*entries, last])])
        assert [r.reason for r in answer.refusals] == ["forbidden-topic"]

    run(main())


def test_event_recorded_by_a_third_server_is_not_taken():
    async def main():
        alpha, bravo = await only()
        entries = [changed(e, recorded_by="charlie") for e in await call_at(alpha)]
        answer = await send(alpha, bravo, [parcel_of(entries)])
        assert [r.reason for r in answer.refusals] == ["bad-events"]
        assert bravo.delivered() == []

    run(main())


def test_unknown_events_of_a_call_are_kept_byte_for_byte():
    async def main():
        alpha, bravo = await only()
        first, second, stored = await call_at(alpha)
        newer = changed(second, event="caller-identified", trust="high")
        answer = await send(alpha, bravo, [parcel_of([first, newer, stored])])
        assert answer.refusals == ()
        kept = bravo.disk.recorder.read_streams([first.originator_id])[first.originator_id]
        assert kept[1].plain == newer.plain
        assert kept[1].topic == "caller-identified"
        assert len(bravo.delivered()) == 1

    run(main())


def test_other_event_at_a_place_that_is_taken_is_a_conflict():
    async def main():
        alpha, bravo = await only()
        entries = await call_at(alpha)
        await send(alpha, bravo, [parcel_of(entries)])
        before = bravo.disk.recorder.head()
        other = [*entries[:2], changed(entries[2], message_id=str(UUID(int=9)))]
        answer = await send(alpha, bravo, [parcel_of(other)], through_position=4)
        assert [r.reason for r in answer.refusals] == ["conflict"]
        assert bravo.disk.recorder.head() == before

    run(main())


@pytest.mark.parametrize(
    "change",
    [{"origin": "charlie"}, {"home": "charlie"}, {"through_position": 2}, {"after_position": 3}],
)
def test_batch_that_is_not_what_it_says_is_rejected_as_a_whole(change):
    async def main():
        alpha, bravo = await only()
        answer = await send(alpha, bravo, [parcel_of(await call_at(alpha))], **change)
        assert isinstance(answer, Rejected)
        assert bravo.events() == []

    run(main())


def test_server_that_is_not_configured_is_rejected():
    async def main():
        alpha, bravo = await only()
        parcels = [parcel_of(await call_at(alpha))]
        answer = await send(alpha, bravo, parcels, sender="zulu", origin="zulu")
        assert isinstance(answer, Rejected)
        assert bravo.events() == []

    run(main())


def test_parcels_out_of_order_are_rejected():
    async def main():
        alpha, bravo = await only()
        one, two = parcel_of(await call_at(alpha)), parcel_of(await call_at(alpha, audio=b"2"))
        assert isinstance(await send(alpha, bravo, [two, one]), Rejected)

    run(main())


def test_old_incarnation_is_answered_with_a_gap_once_a_newer_one_is_there():
    async def main():
        alpha, bravo = await only()
        one, two = await call_at(alpha), await call_at(alpha, audio=b"2")
        await send(alpha, bravo, [parcel_of(one)])
        await send(alpha, bravo, [parcel_of(one)], incarnation=UUID(int=78))
        late = await send(alpha, bravo, [parcel_of(two)], after_position=3)
        assert isinstance(late, Gap)
        assert late.tracked[0].incarnation == UUID(int=78)
        assert len(bravo.delivered()) == 1

    run(main())


def test_batch_that_waits_is_not_taken_in_once_its_origin_has_made_contact():
    async def main():
        alpha, bravo = await only()
        one, two = await call_at(alpha), await call_at(alpha, audio=b"2")
        through = one[-1].position
        second = asyncio.create_task(
            send(alpha, bravo, [parcel_of(two)], after_position=through, after_root="a" * 64)
        )
        await asyncio.sleep(0)
        assert not second.done(), "it waits for the first"
        assert (await contact(bravo)).tracked == ()
        assert isinstance(await second, Gap)
        assert isinstance(await send(alpha, bravo, [parcel_of(one)]), Accepted)
        assert len(bravo.delivered()) == 1
        again = await send(
            alpha, bravo, [parcel_of(two)], after_position=through, after_root="a" * 64
        )
        assert isinstance(again, Accepted)
        assert len(bravo.delivered()) == 2

    run(main())


def test_receipt_names_what_was_sent_and_what_is_held():
    async def main():
        alpha, bravo = await only()
        answer = await send(alpha, bravo, [parcel_of(await call_at(alpha))])
        head = bravo.disk.recorder.head()
        receipt = answer.receipt
        assert (receipt.origin, receipt.origin_position, receipt.origin_root) == (
            "alpha",
            3,
            "a" * 64,
        )
        assert (receipt.home_position, receipt.home_root) == (head.position, head.root.hex())

    run(main())


def test_profile_of_a_mailbox_reaches_every_server():
    async def main():
        sites = make_sites(["alpha", "bravo", "charlie"])
        for site in sites.values():
            await site.start()
        stream = UUID(int=1001)
        common: dict[str, Any] = {
            "originator_id": stream,
            "recorded_at": START,
            "recorded_by": "alpha",
            "mailbox": "1001@default",
        }
        alpha = sites["alpha"]
        await alpha.log.append_events([MailboxOpened(**common, originator_version=1)])
        for version in (2, 3):
            pin = PinChanged(**common, originator_version=version, verifier=None, by="1001")
            await alpha.log.append_events([pin])
        for other in ("bravo", "charlie"):
            await eventually(lambda o=other: len(sites[o].of_kind(PinChanged)) == 2)
            assert len(sites[other].of_kind(MailboxOpened)) == 1

    run(main())


def test_profile_from_a_server_that_is_not_the_mailbox_home_is_refused():
    async def main():
        alpha, bravo = await only()
        stream = UUID(int=2001)
        forged = PinChanged(
            originator_id=stream,
            originator_version=1,
            recorded_at=START,
            recorded_by="alpha",
            mailbox="2001@default",
            verifier=None,
            by="mallory",
        )
        entry = LogEntry(1, stream, 1, forged.topic, encode(forged), None, None)
        answer = await send(alpha, bravo, [parcel_of([entry])])
        assert [r.reason for r in answer.refusals] == ["not-its-mailbox"]
        assert bravo.events() == []

    run(main())


def test_recording_that_the_home_lost_is_healed_by_the_next_one_that_comes():
    async def main():
        alpha, bravo = await only()
        parcel = parcel_of(await call_at(alpha))
        await send(alpha, bravo, [parcel])
        bravo.disk.recorder.image.blob_locations.clear()
        bravo.disk.blobs.packs.clear()
        await send(alpha, bravo, [parcel], through_position=4)
        location = bravo.disk.recorder.locate_blobs(parcel.blobs)[parcel.blobs[0]]
        assert (
            hashlib.sha256(bravo.disk.blobs.get(parcel.blobs[0], location)).hexdigest()
            == (parcel.blobs[0])
        )
        assert len(bravo.delivered()) == 1

    run(main())


def test_call_comes_with_its_key_which_only_the_master_key_of_its_home_opens():
    async def main():
        alpha, bravo = await only()
        entries = await call_at(alpha)
        call_id = entries[0].originator_id
        await send(alpha, bravo, [parcel_of(entries)])
        assert bravo.caller_of(call_id) == alpha.caller_of(call_id)
        assert bravo.caller_of(call_id).caller == CALLER
        assert bravo.log.recorder.read_keys([call_id]) != alpha.log.recorder.read_keys([call_id])

    run(main())


@pytest.mark.parametrize("newer", [{"event": "call-began"}, {"v": 99}])
def test_key_is_kept_also_of_a_call_whose_beginning_a_newer_program_wrote(newer):
    async def main():
        alpha, bravo = await only()
        first, second, stored = await call_at(alpha)
        keys = sealed_for(bravo, alpha.vault.find([first.originator_id]))
        parcel = parcel_of([changed(first, **newer), second, stored])
        assert (await send(alpha, bravo, [parcel], keys=keys)).refusals == ()
        assert len(bravo.delivered()) == 1
        event = decode(stored.plain)
        assert isinstance(event, MessageStored)
        assert bravo.audio_of(event) == alpha.audio_of(event), "it can be heard"

    run(main())


def test_keys_that_were_sealed_for_another_server_are_refused_and_nothing_is_kept():
    async def main():
        alpha, bravo = await only()
        entries = await call_at(alpha)
        found = alpha.vault.find([entries[0].originator_id])
        for keys in (sealed_for(alpha, found), b"k" * 96, sealed_for(bravo, found)[:-1]):
            answer = await send(alpha, bravo, [parcel_of(entries)], keys=keys)
            assert isinstance(answer, Rejected)
            assert "cannot be opened" in answer.reason
        assert bravo.disk.recorder.head().position == 0

    run(main())


def test_sealed_call_is_refused_while_neither_has_its_key_and_nothing_of_it_is_kept():
    async def main():
        alpha, bravo = await only()
        parcel = parcel_of(await call_at(alpha))
        answer = await send(alpha, bravo, [parcel], keys=b"")
        assert [refused.reason for refused in answer.refusals] == ["key-missing"]
        assert bravo.disk.recorder.head().position == 0
        assert (await send(alpha, bravo, [parcel], through_position=4)).refusals == ()
        assert len(bravo.delivered()) == 1

    run(main())


def test_key_of_a_refused_message_is_not_kept():
    async def main():
        alpha, bravo = await only()
        entries = await call_at(alpha)
        answer = await send(alpha, bravo, [parcel_of(entries)], blobs={})
        assert [refused.reason for refused in answer.refusals] == ["audio-missing"]
        assert bravo.disk.recorder.image.keys == {}

    run(main())


def test_key_that_the_home_lost_is_healed_by_the_next_one_that_comes():
    async def main():
        alpha, bravo = await only()
        parcel = parcel_of(await call_at(alpha))
        await send(alpha, bravo, [parcel])
        bravo.disk.recorder.image.keys.clear()
        await send(alpha, bravo, [parcel])
        assert bravo.caller_of(parcel_call(parcel)).state is CallerState.KNOWN
        assert len(bravo.delivered()) == 1

    run(main())


def test_key_that_the_home_destroyed_stays_so_when_its_message_comes_again():
    async def main():
        alpha, bravo = await only()
        parcel = parcel_of(await call_at(alpha))
        call_id = parcel_call(parcel)
        await send(alpha, bravo, [parcel])
        await bravo.log.append(Append([], keys=bravo.vault.destroy([call_id])))
        assert (await send(alpha, bravo, [parcel], through_position=4)).refusals == ()
        assert bravo.caller_of(call_id).state is CallerState.ERASED

    run(main())


def test_key_that_does_not_open_at_the_origin_is_not_sent():
    async def main():
        alpha, bravo = await only()
        parcel = parcel_of(await call_at(alpha))
        keys = alpha.disk.recorder.image.keys
        wrapped = keys[parcel_call(parcel)]
        keys[parcel_call(parcel)] = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
        answer = await send(alpha, bravo, [parcel])
        assert [refused.reason for refused in answer.refusals] == ["key-missing"]

    run(main())


def test_verified_backup_of_the_home_makes_safe_what_was_there_by_then():
    async def main():
        sites = make_sites()
        alpha, bravo = sites["alpha"], sites["bravo"]
        for site in sites.values():
            await site.start()
        await alpha.take_call("2001")
        await eventually(lambda: len(alpha.of_kind(MessageMigrated)) == 1)
        assert alpha.deliveries.release_position("bravo") == 0
        head = bravo.disk.recorder.head()
        stream = server_stream_id("bravo", head.incarnation)
        backup = BackupVerified(
            originator_id=stream,
            originator_version=1,
            recorded_at=START,
            recorded_by="bravo",
            position=head.position,
            place="tape",
        )
        await bravo.log.append_events([backup])
        await eventually(lambda: alpha.deliveries.release_position("bravo") == 3)

    run(main())


def test_parcel_that_the_peer_cannot_bear_is_found_and_set_aside():
    async def main():
        sites = make_sites()
        alpha, bravo = sites["alpha"], sites["bravo"]
        await alpha.start()
        messages = [await alpha.take_call("2001", bytes([n]) * 20) for n in range(6)]
        poison = messages[2]
        await bravo.start()
        handle = bravo.receiver.handle

        async def choke(sender, route, body):
            if route is Route.BATCH and poison.blob in decode_batch(body, "alpha").blobs:
                return await handle(sender, route, body[:-1])
            return await handle(sender, route, body)

        bravo.receiver.handle = choke
        await eventually(lambda: len(alpha.of_kind(MessageMigrated)) == 5, within_s=3000)
        [refused] = alpha.of_kind(MigrationRefused)
        assert (refused.message_id, refused.reason) == (poison.message_id, "rejected")
        assert bravo.delivered() == [m.message_id for m in messages if m is not poison]

    run(main())


def test_backoff_is_kept_over_a_restart():
    async def main():
        sites = make_sites()
        alpha = sites["alpha"]
        await alpha.start()
        await eventually(lambda: alpha.deliveries.statuses()[0].attempts == 0)
        bravo = sites["bravo"]
        await bravo.start()
        await alpha.take_call("2001")
        await eventually(lambda: len(alpha.of_kind(MessageMigrated)) == 1)
        await bravo.stop()
        await eventually(lambda: alpha.deliveries.statuses()[0].attempts >= 5, within_s=3000)
        await alpha.restart()
        assert alpha.disk.cursors.cursors["bravo"].attempts >= 5
        await eventually(lambda: alpha.deliveries.statuses()[0].attempts >= 5, within_s=1)

    run(main())


def test_contact_says_which_receipts_are_still_in_the_log():
    async def main():
        alpha, bravo = await only()
        await send(alpha, bravo, [parcel_of(await call_at(alpha))])
        head = bravo.disk.recorder.head()
        assert head.position > 3

        def mark(position: int, root: str | None = None) -> HomeMark:
            held = bravo.disk.recorder.root_at(min(position, head.position)).hex()
            return HomeMark(origin_position=1, home_position=position, home_root=root or held)

        async def kept(*marks: HomeMark) -> int:
            return (await contact(bravo, *marks)).kept

        assert await kept() == 0
        assert await kept(mark(1), mark(3), mark(head.position)) == 3
        assert await kept(mark(1), mark(head.position + 1)) == 1
        other = mark(2, "b" * 64)
        assert await kept(mark(1), other, mark(3)) == 1, (
            "a later one may be of the log as it is now"
        )
        assert await kept(other) == 0

    run(main())
