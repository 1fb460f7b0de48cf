"""A mailbox is re-homed by an event while messages travel: they end at its newest home, once."""

from datetime import timedelta
from typing import Any

from ledger.errors import TransientError
from ledger.events import (
    MailboxOpened,
    MailboxRehomed,
    MessageDelivered,
    MessageErased,
    MessageHeard,
    MessageMigrated,
    MessageRehomed,
    MessageRequeued,
    MessageStored,
    MigrationRefused,
)
from ledger.ids import MailboxAddress, mailbox_stream_id, message_stream_id
from ledger.journey import Stage, journey_of
from ledger.migration.link import Route
from ledger.storage.blob_care import gc
from tests.integration.migration.test_recall import greet
from tests.support.sites import Site, eventually, make_sites, quiet, run
from vmledger.blob_needs import needed_blobs

MAILBOX = "2001@default"


async def started() -> list[Site]:
    sites = make_sites(("alpha", "bravo", "charlie"))
    for site in sites.values():
        await site.start()
    return list(sites.values())


async def rehome(
    site: Site, to: str, *, epoch: int = 2, is_forced: bool = False, mailbox: str = MAILBOX
) -> None:
    """Record a move as the use case does; with a stale view, if the test wants one."""
    incarnation = (await site.log.head()).incarnation
    stream = mailbox_stream_id(MailboxAddress("2001"), site.id, incarnation)
    entries = (await site.log.read_streams([stream])).get(stream, [])
    event = MailboxRehomed(
        originator_id=stream,
        originator_version=len(entries) + 1,
        recorded_at=site.clock.now(),
        recorded_by=site.id,
        mailbox=mailbox,
        from_home="bravo" if is_forced else site.id,
        to_home=to,
        epoch=epoch,
        by="ann",
        is_forced=is_forced,
    )
    await site.log.append_events([event])


def at_home(*sites: Site) -> dict[str, list[Any]]:
    """Give the messages that are at home at each server."""
    found: dict[str, list[Any]] = {}
    for site in sites:
        found[site.id] = []
        for message_id in dict.fromkeys(e.message_id for e in site.of_kind(MessageDelivered)):
            own = message_stream_id(message_id, site.id)
            told = [event for event in site.events() if event.originator_id == own]
            journey = journey_of(message_id, told)
            if journey is not None and journey.stage is Stage.AT_HOME:
                found[site.id].append(message_id)
    return found


async def heard_at(site: Site, message: MessageStored, version: int) -> None:
    """The user listens to a message that waits at the server that took the call."""
    event = MessageHeard(
        originator_id=message.originator_id,
        originator_version=version,
        recorded_at=site.clock.now(),
        recorded_by=site.id,
        message_id=message.message_id,
        by="user",
    )
    await site.log.append_events([event])


async def sent_back(site: Site, message: MessageStored) -> None:
    """Record that a message which was leaving lives here after all, without its delivery."""
    own = message_stream_id(message.message_id, site.id)
    event = MessageRequeued(
        originator_id=own,
        originator_version=len((await site.log.read_streams([own]))[own]) + 1,
        recorded_at=site.clock.now(),
        recorded_by=site.id,
        message_id=message.message_id,
        home=site.id,
        reason="mailbox-moved",
    )
    await site.log.append_events([event])


async def lose_receipt(route: Route, answer: bytes) -> bytes:
    """What a link does to answers."""
    if route is Route.BATCH:
        raise TransientError("lost")
    return answer


async def erased_at(site: Site, message: MessageStored, version: int) -> None:
    """The message is erased while it waits, and the call's key kept: another one needs it."""
    event = MessageErased(
        originator_id=message.originator_id,
        originator_version=version,
        recorded_at=site.clock.now(),
        recorded_by=site.id,
        message_id=message.message_id,
        by="operator",
        reason="asked",
    )
    await site.log.append_events([event])


def test_delivered_message_follows_its_mailbox_with_its_sound():
    async def main():
        alpha, bravo, charlie = sites = await started()
        message = await alpha.take_call("2001", b"follow")
        await eventually(lambda: bool(alpha.of_kind(MessageMigrated)))
        await rehome(bravo, "charlie")
        await eventually(lambda: at_home(*sites)["charlie"] == [message.message_id])
        await eventually(lambda: at_home(*sites)["bravo"] == [])
        assert charlie.audio_of(message) == b"follow"
        assert [e.epoch for e in charlie.of_kind(MailboxOpened)] == [2]
        await quiet()
        assert {site.homes.name_of_home(MAILBOX) for site in sites} == {"charlie"}

    run(main())


def test_message_comes_back_with_its_sound_where_that_was_dropped_meanwhile():
    async def main():
        _, bravo, charlie = sites = await started()
        message = await sites[0].take_call("2001", b"back again")
        await eventually(lambda: at_home(*sites)["bravo"] == [message.message_id])
        await rehome(bravo, "charlie")
        await eventually(lambda: at_home(*sites)["charlie"] == [message.message_id])
        await eventually(lambda: at_home(*sites)["bravo"] == [])
        assert bravo.disk.blobs.packs, "what came from a peer lies in a pack"
        bravo.disk.blobs.packs.clear()  # nobody needs it there any more: `vmledger blobs gc`
        await rehome(charlie, "bravo", epoch=3)
        await eventually(lambda: at_home(*sites)["bravo"] == [message.message_id])
        assert bravo.audio_of(message) == b"back again"

    run(main())


def test_sound_that_comes_to_be_needed_again_is_not_dropped_by_who_looked_just_before():
    async def main():
        _, bravo, charlie = sites = await started()
        message = await sites[0].take_call("2001", b"back again")
        await eventually(lambda: at_home(*sites)["bravo"] == [message.message_id])
        await rehome(bravo, "charlie")
        await eventually(lambda: at_home(*sites)["charlie"] == [message.message_id])
        await eventually(lambda: at_home(*sites)["bravo"] == [])
        blobs, recorder = bravo.disk.blobs, bravo.disk.recorder
        blobs.packs = {name: (data, 0.0) for name, (data, _) in blobs.packs.items()}
        needed = needed_blobs(recorder, "bravo", timedelta(0), bravo.clock.now())
        assert message.blob not in needed
        await rehome(charlie, "bravo", epoch=3)
        await eventually(lambda: at_home(*sites)["bravo"] == [message.message_id])
        gc(blobs, needed, recorder.locate_blobs(sorted(needed)), min_age_s=86_400)
        assert bravo.audio_of(message) == b"back again"

    run(main())


def test_message_for_a_home_that_has_not_heard_yet_is_sent_again_when_it_has():
    async def main():
        alpha, bravo, _ = sites = await started()
        bravo.links["charlie"].is_cut = True
        await rehome(bravo, "charlie")
        await eventually(lambda: alpha.homes.name_of_home(MAILBOX) == "charlie")
        message = await alpha.take_call("2001")
        await eventually(lambda: bool(alpha.of_kind(MigrationRefused)))
        bravo.links["charlie"].is_cut = False
        await eventually(lambda: at_home(*sites)["charlie"] == [message.message_id])
        assert bravo.of_kind(MessageDelivered) == []

    run(main())


def test_what_was_done_where_the_call_landed_reaches_a_home_that_the_message_went_on_to():
    async def main():
        alpha, bravo, charlie = sites = await started()

        alpha.links["bravo"].after = lose_receipt
        message = await alpha.take_call("2001")
        await eventually(lambda: bravo.delivered() == [message.message_id])
        alpha.links["bravo"].is_cut = True
        await rehome(bravo, "charlie")
        await eventually(lambda: at_home(*sites)["bravo"] == [])
        await heard_at(alpha, message, 4)
        alpha.links["bravo"].after = None
        alpha.links["bravo"].is_cut = False
        await eventually(lambda: [e.by for e in charlie.of_kind(MessageHeard)] == ["user"])
        assert "more-told" in [e.reason for e in bravo.of_kind(MessageRequeued)]
        await quiet()
        assert at_home(*sites) == {"alpha": [], "bravo": [], "charlie": [message.message_id]}

    run(main())


def test_message_that_was_erased_where_the_call_landed_is_not_to_go_to_the_next_home():
    async def main():
        alpha, bravo, _ = sites = await started()

        alpha.links["bravo"].after = lose_receipt
        message = await alpha.take_call("2001")
        await eventually(lambda: bravo.delivered() == [message.message_id])
        await erased_at(alpha, message, 4)
        await eventually(lambda: len(bravo.of_kind(MessageErased)) == 1)
        await rehome(bravo, "charlie")
        await eventually(
            lambda: at_home(*sites)["charlie"] == [] and bravo.homes.epoch_of(MAILBOX) == 2
        )
        await quiet()
        assert bravo.of_kind(MessageRehomed) == []

    run(main())


def test_of_two_moves_under_one_epoch_the_higher_name_wins_everywhere():
    async def main():
        alpha, bravo, charlie = sites = await started()
        message = await alpha.take_call("2001")
        await eventually(lambda: at_home(*sites)["bravo"] == [message.message_id])
        for one, other in (("bravo", "charlie"), ("charlie", "bravo"), ("charlie", "alpha")):
            next(s for s in sites if s.id == one).links[other].is_cut = True
        await rehome(bravo, "alpha")
        await rehome(charlie, "charlie", is_forced=True)
        await eventually(lambda: at_home(*sites)["alpha"] == [message.message_id])
        for site in sites:
            for link in site.links.values():
                link.is_cut = False
        await eventually(lambda: at_home(*sites)["charlie"] == [message.message_id])
        await quiet()
        assert at_home(*sites) == {"alpha": [], "bravo": [], "charlie": [message.message_id]}
        assert {site.homes.name_of_home(MAILBOX) for site in sites} == {"charlie"}

    run(main())


def test_move_that_a_crash_cut_off_goes_on_at_the_next_start():
    async def main():
        alpha, bravo, _ = sites = await started()
        message = await alpha.take_call("2001")
        await eventually(lambda: bool(alpha.of_kind(MessageMigrated)))
        await bravo.stop()
        await rehome(bravo, "charlie")
        await bravo.start()
        await eventually(lambda: at_home(*sites)["charlie"] == [message.message_id])

    run(main())


def test_former_home_that_went_back_hears_of_the_move_and_hands_over_again():
    async def main():
        alpha, bravo, charlie = sites = await started()
        message = await alpha.take_call("2001")
        await eventually(lambda: bool(alpha.of_kind(MessageMigrated)))
        backup = bravo.disk.copy()
        await rehome(bravo, "charlie")
        await eventually(lambda: at_home(*sites)["charlie"] == [message.message_id])
        await bravo.restart(backup)
        assert at_home(bravo)["bravo"] == [message.message_id]
        await eventually(lambda: at_home(bravo)["bravo"] == [])
        await quiet()
        assert at_home(*sites) == {"alpha": [], "bravo": [], "charlie": [message.message_id]}
        assert len(charlie.of_kind(MailboxOpened)) == 1

    run(main())


def test_move_that_its_home_forgot_and_wrote_over_is_told_to_all_again():
    async def main():
        alpha, bravo, charlie = sites = await started()
        await alpha.take_call("2002")
        await eventually(lambda: bool(alpha.of_kind(MessageMigrated)))
        backup = bravo.disk.copy()
        charlie.links["bravo"].is_cut = bravo.links["charlie"].is_cut = True
        await rehome(bravo, "charlie")
        await eventually(lambda: len(alpha.of_kind(MailboxRehomed)) == 1)
        bravo.links["alpha"].is_cut = alpha.links["bravo"].is_cut = True
        await bravo.restart(backup)
        await greet(bravo, "2001", b"said before it was noticed")
        for site in sites:
            for link in site.links.values():
                link.is_cut = False
        await eventually(lambda: bool(charlie.of_kind(MailboxOpened)))
        message = await alpha.take_call("2001")
        await eventually(lambda: at_home(charlie)["charlie"] == [message.message_id])
        [again] = charlie.of_kind(MailboxRehomed)
        assert (again.to_home, again.epoch, again.recorded_by) == ("charlie", 2, "bravo")

    run(main())


def test_move_of_what_is_no_mailbox_is_refused_and_holds_up_no_other():
    async def main():
        alpha, bravo, charlie = sites = await started()
        message = await alpha.take_call("2001")
        await eventually(lambda: at_home(*sites)["bravo"] == [message.message_id])
        await rehome(alpha, "bravo", mailbox="no@mailbox@at all")
        last = await alpha.take_call("2002")
        await eventually(lambda: last.message_id in bravo.delivered())
        await rehome(bravo, "charlie")
        await eventually(lambda: at_home(*sites)["charlie"] == [message.message_id])
        assert "no@mailbox@at all" not in {e.mailbox for e in bravo.of_kind(MailboxRehomed)}
        assert [e.mailbox for e in charlie.of_kind(MailboxOpened)] == [MAILBOX]

    run(main())


def test_message_that_came_back_and_whose_delivery_a_log_that_was_cut_lacks_is_delivered():
    """A copy may end within a commit: after a message was sent back to its home, here."""

    async def main():
        alpha, bravo, _ = sites = await started()
        message = await alpha.take_call("2001")
        await eventually(lambda: at_home(*sites)["bravo"] == [message.message_id])
        bravo.links["charlie"].is_cut = True
        await rehome(bravo, "charlie")
        await eventually(lambda: at_home(*sites)["bravo"] == [])
        await bravo.stop()
        await rehome(bravo, "bravo", epoch=3, is_forced=True)
        await sent_back(bravo, message)
        assert len(bravo.delivered()) == 1
        for _ in range(2):
            await bravo.restart()
            await quiet()
            assert bravo.delivered() == [message.message_id] * 2
        assert at_home(bravo)["bravo"] == [message.message_id]

    run(main())
