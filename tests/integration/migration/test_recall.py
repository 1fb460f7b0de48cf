"""A server that was restored from an old backup asks the others for what it has forgotten."""

import hashlib
from datetime import timedelta

import msgspec
import pytest

from ledger.errors import TransientError
from ledger.events import (
    AudioFacts,
    GreetingRecorded,
    IncarnationStarted,
    LogRecalled,
    MailboxHeld,
    MailboxReleased,
    MessageMigrated,
    MessageStored,
    MigrationRefused,
    PinChanged,
)
from ledger.ids import MailboxAddress, mailbox_stream_id
from ledger.mailbox import GreetingKind, project
from ledger.migration.link import PeerClient, Route
from ledger.migration.wire_bytes import decode_answer, encode_answer
from ledger.pin import ScryptCost, make_verifier
from ledger.storage.blob_care import gc
from tests.integration.migration.test_profile_parcels import stored as stored_form
from tests.support.sites import CALLER, Disk, Site, eventually, make_sites, quiet, run
from vmledger.blob_needs import needed_blobs


async def started(*names: str) -> list[Site]:
    sites = make_sites(names or ("alpha", "bravo"))
    for site in sites.values():
        await site.start()
    return list(sites.values())


def migrated(site: Site) -> list:
    return [event.message_id for event in site.of_kind(MessageMigrated)]


def stored(site: Site) -> list:
    return [event.message_id for event in site.of_kind(MessageStored)]


def recalled(site: Site) -> dict[str, LogRecalled]:
    """The last word of each peer that was asked to the end."""
    return {event.peer: event for event in site.of_kind(LogRecalled) if event.is_complete}


async def greet(
    site: Site, extension: str, sound: bytes, kind: str = "unavailable"
) -> GreetingRecorded:
    """Record a greeting as a server does: first its sound, then the event."""
    stored = stored_form(sound)
    blob = hashlib.sha256(stored).hexdigest()
    site.disk.blobs.put(blob, stored)
    mailbox = MailboxAddress(extension)
    incarnation = (await site.log.head()).incarnation
    stream = mailbox_stream_id(mailbox, site.id, incarnation)
    entries = (await site.log.read_streams([stream])).get(stream, [])
    event = GreetingRecorded(
        originator_id=stream,
        originator_version=len(entries) + 1,
        recorded_at=site.clock.now(),
        recorded_by=site.id,
        mailbox=str(mailbox),
        kind=kind,
        blob=blob,
        blob_size_bytes=len(stored),
        audio=AudioFacts(
            digest=hashlib.sha256(sound).hexdigest(),
            size_bytes=len(sound),
            container="raw",
            codec="pcmu",
            sample_rate_hz=8000,
            channels=1,
            duration_ms=1,
        ),
    )
    await site.log.append_events([event])
    return event


async def go_back_and_greet(site: Site, peer: Site, backup: Disk) -> GreetingRecorded:
    """Restore a site whose user says something before it is noticed; wait for the recall."""
    site.links[peer.id].is_cut = peer.links[site.id].is_cut = True
    await site.restart(backup)
    newer = await greet(site, "1001", b"said before it was noticed")
    site.links[peer.id].is_cut = peer.links[site.id].is_cut = False
    await eventually(lambda: peer.id in recalled(site))
    await quiet(100)
    return newer


async def say_of_hold(
    site: Site, extension: str, kind: type[MailboxHeld | MailboxReleased]
) -> None:
    mailbox = MailboxAddress(extension)
    stream = mailbox_stream_id(mailbox, site.id, (await site.log.head()).incarnation)
    entries = (await site.log.read_streams([stream])).get(stream, [])
    event = kind(
        originator_id=stream,
        originator_version=len(entries) + 1,
        recorded_at=site.clock.now(),
        recorded_by=site.id,
        mailbox=str(mailbox),
        by="counsel",
        reason="a lawsuit",
    )
    await site.log.append_events([event])


def greeting_of(site: Site, extension: str):
    return project(f"{extension}@default", site.events()).greeting(GreetingKind.UNAVAILABLE)


def test_message_that_only_its_home_remembers_is_known_here_again_and_not_doubled():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001", b"one")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        second = await alpha.take_call("2001", b"two")
        await eventually(lambda: len(migrated(alpha)) == 2)
        before = alpha.disk.recorder.read_streams([second.originator_id])[second.originator_id]
        await alpha.restart(backup)
        assert second.message_id not in stored(alpha)
        await eventually(lambda: second.message_id in migrated(alpha))
        await quiet()
        after = alpha.disk.recorder.read_streams([second.originator_id])[second.originator_id]
        assert [e.plain for e in after[:3]] == [e.plain for e in before[:3]]
        assert {e.origin for e in after} == {None}
        assert len(bravo.delivered()) == 2
        assert alpha.audio_of(second) == b"two"
        assert alpha.caller_of(second.originator_id).caller == CALLER

    run(main())


def test_forgotten_sound_that_is_still_here_is_not_dropped_by_who_looked_just_before():
    async def main():
        alpha, _ = await started()
        await alpha.take_call("2001", b"one")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        second = await alpha.take_call("2001", b"two")
        await eventually(lambda: len(migrated(alpha)) == 2)
        backup.blobs.loose = {
            name: (data, 0.0) for name, (data, _) in alpha.disk.blobs.loose.items()
        }
        await alpha.restart(backup)
        needed = needed_blobs(alpha.disk.recorder, "alpha", timedelta(1), alpha.clock.now())
        assert second.blob not in needed
        await eventually(lambda: second.message_id in stored(alpha))
        gc(alpha.disk.blobs, needed, {}, min_age_s=86_400)
        assert alpha.audio_of(second) == b"two"

    run(main())


def test_log_says_how_far_it_was_known_and_what_came_back():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001", b"one")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        last_kept = backup.recorder.head().position
        for n in range(3):
            await alpha.take_call("2001", bytes([n]))
        await eventually(lambda: len(migrated(alpha)) == 4)
        # The receipts themselves are known to nobody else.
        shipped = alpha.of_kind(MessageMigrated)[-1].receipt.origin_position
        await alpha.restart(backup)
        await eventually(lambda: "bravo" in recalled(alpha))
        told = recalled(alpha)["bravo"]
        [began] = alpha.of_kind(IncarnationStarted)
        assert began.position >= last_kept
        assert (told.events, told.messages, told.not_taken) == (9, 3, 0)
        assert told.known_until == shipped
        assert told.common_until == 3
        assert told.incarnation == began.incarnation
        assert told.peer_position <= bravo.disk.recorder.head().position

    run(main())


def test_peer_that_was_away_is_asked_when_it_is_back_also_after_a_restart():
    async def main():
        alpha, _, charlie = await started("alpha", "bravo", "charlie")
        backup = alpha.disk.copy()
        mine = await alpha.take_call("2001", b"to bravo")
        other = await alpha.take_call("3001", b"to charlie")
        await eventually(lambda: len(migrated(alpha)) == 2)
        await charlie.stop()
        await alpha.restart(backup)
        await eventually(lambda: "bravo" in recalled(alpha))
        assert mine.message_id in stored(alpha)
        assert other.message_id not in stored(alpha)
        await alpha.restart()
        await charlie.start()
        await eventually(lambda: other.message_id in migrated(alpha))
        assert charlie.delivered() == [other.message_id]
        assert len([e for e in alpha.of_kind(LogRecalled) if e.peer == "bravo"]) == 1

    run(main())


def test_recall_goes_on_where_it_was_interrupted(monkeypatch):
    monkeypatch.setattr("ledger.migration.former_events._ENOUGH", 3)
    monkeypatch.setattr("ledger.migration.former_events._SPAN", 2)

    async def main():
        alpha, bravo = await started()
        backup = alpha.disk.copy()
        messages = [await alpha.take_call("2001", bytes([n])) for n in range(12)]
        await eventually(lambda: len(migrated(alpha)) == 12)
        answered, asked = 0, []

        async def break_often(route: Route, answer: bytes) -> bytes:
            nonlocal answered
            if route is Route.RECALL:
                answered += 1
                if answered % 2 == 0:
                    raise TransientError("lost")
                asked.append(decode_answer(answer, "bravo").after_position)
            return answer

        alpha.links["bravo"].after = break_often
        await alpha.restart(backup)
        await eventually(lambda: "bravo" in recalled(alpha), within_s=3000)
        await eventually(lambda: len(migrated(alpha)) == 12)
        assert len(asked) > 4
        assert asked == sorted(set(asked)), "no stretch is gone through twice"
        assert stored(alpha) == [m.message_id for m in messages]
        assert len(bravo.delivered()) == 12
        assert sum(event.messages for event in alpha.of_kind(LogRecalled)) == 12

    run(main())


def test_stream_that_is_longer_than_an_answer_holds_up_nothing_behind_it(monkeypatch):
    monkeypatch.setattr("ledger.migration.former_events.MAX_RECALLED", 3)
    answers: list[int] = []

    async def note(route: Route, answer: bytes) -> bytes:
        if route is Route.RECALL:
            answers.append(len(decode_answer(answer, "bravo").events))
        return answer

    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001", b"one")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        for number in range(5):
            await greet(alpha, "1001", bytes([number]))
        await eventually(lambda: len(bravo.of_kind(GreetingRecorded)) == 5)
        second = await alpha.take_call("2001", b"two")
        await eventually(lambda: len(migrated(alpha)) == 2)
        alpha.links["bravo"].after = note
        await alpha.restart(backup)
        await eventually(lambda: "bravo" in recalled(alpha))
        assert max(answers) == 3, "no more than the other side reads"
        assert len(alpha.of_kind(GreetingRecorded)) == 3, "its beginning"
        assert second.message_id in stored(alpha)

    run(main())


def test_greeting_and_its_sound_come_back():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        greeting = await greet(alpha, "1001", b"forgotten")
        await eventually(lambda: bravo.of_kind(GreetingRecorded) == [greeting])
        await alpha.restart(backup)
        await eventually(lambda: alpha.of_kind(GreetingRecorded) == [greeting])
        assert alpha.disk.blobs.has(greeting.blob)
        assert greeting_of(alpha, "1001") == greeting_of(bravo, "1001") == greeting

    run(main())


@pytest.mark.parametrize("is_noticed", [False, True])
def test_greeting_recorded_after_the_restore_counts_everywhere(is_noticed):
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        forgotten = await greet(alpha, "1001", b"forgotten")
        await eventually(lambda: bravo.of_kind(GreetingRecorded) == [forgotten])
        for site in (alpha, bravo):
            for link in site.links.values():
                link.is_cut = not is_noticed
        if is_noticed:

            async def stop_recall(route: Route, body: bytes) -> bytes:
                if route is Route.RECALL:
                    raise TransientError("not yet")
                return body

            alpha.links["bravo"].before = stop_recall
        await alpha.restart(backup)
        await quiet(20)
        assert bool(alpha.of_kind(IncarnationStarted)) == is_noticed
        newer = await greet(alpha, "1001", b"newer")
        await quiet(20)
        for site in (alpha, bravo):
            for link in site.links.values():
                link.is_cut = False
        alpha.links["bravo"].before = None
        await eventually(lambda: "bravo" in recalled(alpha))
        await quiet(100)
        assert greeting_of(alpha, "1001").blob == newer.blob
        assert greeting_of(bravo, "1001").blob == newer.blob

    run(main())


@pytest.mark.parametrize("was_released_before", [False, True])
def test_legal_hold_that_was_forgotten_and_written_over_counts_again_everywhere(
    was_released_before,
):
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        if was_released_before:
            await say_of_hold(alpha, "1001", MailboxReleased)
        backup = alpha.disk.copy()
        await say_of_hold(alpha, "1001", MailboxHeld)
        await eventually(lambda: len(bravo.of_kind(MailboxHeld)) == 1)
        newer = await go_back_and_greet(alpha, bravo, backup)
        for site in (alpha, bravo):
            known = project("1001@default", site.events())
            assert known.hold is not None
            assert greeting_of(site, "1001").blob == newer.blob

    run(main())


def test_forgotten_greeting_of_another_kind_than_the_newer_one_comes_back_with_its_sound():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        forgotten = await greet(alpha, "1001", b"I am on holiday", "temporary")
        await eventually(lambda: len(bravo.of_kind(GreetingRecorded)) == 1)
        newer = await go_back_and_greet(alpha, bravo, backup)
        for site in (alpha, bravo):
            known = project("1001@default", site.events())
            temporary = known.greeting(GreetingKind.TEMPORARY)
            assert temporary is not None
            assert temporary.blob == forgotten.blob
            assert greeting_of(site, "1001").blob == newer.blob
        assert alpha.disk.blobs.has(forgotten.blob), "its sound came back too"

    run(main())


def test_what_was_written_since_the_restore_is_not_undone():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        message = await alpha.take_call("2001", b"said once")
        await eventually(lambda: len(migrated(alpha)) == 2)
        alpha.links["bravo"].is_cut = bravo.links["alpha"].is_cut = True
        await alpha.restart(backup)
        # The switch reports the same call again, and hands over the same recording.
        again = [
            msgspec.structs.replace(event, recorded_at=alpha.clock.now())
            for event in bravo.events()
            if event.originator_id == message.originator_id
        ]
        assert len(again) == 3
        await alpha.log.append_events(again)
        alpha.links["bravo"].is_cut = bravo.links["alpha"].is_cut = False
        await eventually(lambda: "bravo" in recalled(alpha))
        await eventually(lambda: message.message_id in migrated(alpha))
        await quiet(60)
        assert recalled(alpha)["bravo"].not_taken == 3
        assert stored(alpha).count(message.message_id) == 1
        assert bravo.delivered().count(message.message_id) == 1
        assert alpha.of_kind(MigrationRefused) == []

    run(main())


def test_server_gets_only_what_it_recorded_itself():
    async def main():
        alpha, bravo, charlie = await started("alpha", "bravo", "charlie")
        message = await alpha.take_call("2001", b"for bravo")
        await eventually(lambda: bravo.delivered() == [message.message_id])
        honest, curious = PeerClient(alpha.links["bravo"]), PeerClient(charlie.links["bravo"])
        assert len((await honest.recall("alpha", 0)).events) == 3
        assert (await curious.recall("charlie", 0)).events == ()
        stream, version = message.originator_id, message.originator_version
        assert await honest.blob(stream, version) is not None
        assert await curious.blob(stream, version) is None

    run(main())


@pytest.mark.parametrize("forged", ["recorded_by", "topic", "number"])
def test_answer_that_this_server_cannot_have_sent_is_not_taken(forged):
    async def main():
        alpha, _ = await started()
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        await alpha.take_call("2001", b"two")
        await eventually(lambda: len(migrated(alpha)) == 2)
        old, new = {
            "recorded_by": (b'"recorded_by":"alpha"', b'"recorded_by":"mallory"'),
            "topic": (b'"event":"call-received"', b'"event":"peer-lost"'),
            "number": (b'"duration_ms":1', b'"duration_ms":%d' % 2**63),
        }[forged]

        async def forge(route: Route, answer: bytes) -> bytes:
            if route is not Route.RECALL:
                return answer
            told = decode_answer(answer, "bravo")
            events = [
                msgspec.structs.replace(e, plain=msgspec.Raw(bytes(e.plain).replace(old, new)))
                for e in told.events
            ]
            return encode_answer(msgspec.structs.replace(told, events=tuple(events)))

        alpha.links["bravo"].after = forge
        await alpha.restart(backup)
        await quiet(200)
        assert alpha.links["bravo"].seen.count(Route.RECALL) > 2
        assert recalled(alpha) == {}
        assert b"mallory" not in b"".join(e.plain for e in alpha.disk.recorder.read(1, 1000))
        alpha.links["bravo"].after = None
        await eventually(lambda: "bravo" in recalled(alpha))

    run(main())


def test_message_whose_sound_is_gone_is_left_to_its_home_and_counted():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        message = await alpha.take_call("2001", b"gone")
        await eventually(lambda: len(migrated(alpha)) == 2)
        for pack in list(bravo.disk.blobs.packs):
            bravo.disk.blobs.delete_pack(pack)
        await alpha.restart(backup)
        await eventually(lambda: "bravo" in recalled(alpha))
        told = recalled(alpha)["bravo"]
        assert (told.events, told.not_taken) == (0, 3)
        assert message.message_id not in stored(alpha)

    run(main())


def test_server_whose_log_never_went_back_asks_nobody():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        await alpha.restart()
        await quiet(100)
        assert Route.RECALL not in alpha.links["bravo"].seen + bravo.links["alpha"].seen

    run(main())


def test_forgotten_pin_comes_back_with_what_it_is_checked_against():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        mailbox = MailboxAddress("1001")
        stream = mailbox_stream_id(mailbox, "alpha", (await alpha.log.head()).incarnation)
        blob = stored_form(make_verifier("2580", lambda size: b"s" * size, ScryptCost(n=2, r=1)))
        digest = hashlib.sha256(blob).hexdigest()
        alpha.disk.blobs.put(digest, blob)
        changed = PinChanged(
            originator_id=stream,
            originator_version=1,
            recorded_at=alpha.clock.now(),
            recorded_by="alpha",
            mailbox=str(mailbox),
            verifier=digest,
            verifier_size_bytes=len(blob),
            by="ann",
        )
        await alpha.log.append_events([changed])
        await eventually(lambda: bravo.of_kind(PinChanged) == [changed])
        await alpha.restart(backup)
        await eventually(lambda: alpha.of_kind(PinChanged) == [changed])
        assert alpha.disk.blobs.has(digest)

    run(main())
