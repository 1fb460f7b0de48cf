"""A mailbox moves to another home while its messages travel: none is doubled, none is lost."""

import msgspec

from ledger.configuration import Directory, parse_claim
from ledger.errors import TransientError
from ledger.events import MessageMigrated, MessageRequeued, MigrationRefused
from ledger.migration.link import Route
from ledger.migration.unsettled import find_unsettled
from tests.support.sites import Site, eventually, make_sites, quiet, run


async def started(*names: str) -> list[Site]:
    sites = make_sites(names)
    for site in sites.values():
        await site.start()
    return list(sites.values())


def move(site: Site, extension: str, home: str) -> None:
    """Write a new configuration; the site reads it at its next start."""
    entries = [
        msgspec.structs.replace(
            entry, claims=(*entry.claims, *([parse_claim(extension)] if entry.id == home else []))
        )
        for entry in site.directory.servers.values()
    ]
    site.directory = Directory(site.id, entries)


def leave(site: Site, name: str) -> None:
    """Take a server out of the configuration; the site reads it at its next start."""
    entries = [entry for entry in site.directory.servers.values() if entry.id != name]
    site.directory = Directory(site.id, entries)


async def lose_answers(site: Site, home: str) -> None:
    async def lose(route: Route, answer: bytes) -> bytes:
        if route is Route.BATCH:
            raise TransientError("lost")
        return answer

    site.links[home].after = lose


def test_message_that_its_old_home_took_in_is_not_sent_to_the_new_one():
    async def main():
        alpha, bravo, charlie = await started("alpha", "bravo", "charlie")
        await lose_answers(alpha, "bravo")
        message = await alpha.take_call("2001", b"once")
        await eventually(lambda: bravo.delivered() == [message.message_id])
        assert alpha.of_kind(MessageMigrated) == []
        for site in (bravo, charlie, alpha):
            move(site, "2001", "charlie")
            await site.restart()
        alpha.links["bravo"].after = None
        await eventually(lambda: bool(alpha.of_kind(MessageMigrated)))
        await quiet()
        assert [event.home for event in alpha.of_kind(MessageMigrated)] == ["bravo"]
        assert (bravo.delivered(), charlie.delivered()) == ([message.message_id], [])

    run(main())


def test_message_that_its_old_home_never_saw_goes_to_the_new_one():
    async def main():
        alpha, bravo, charlie = await started("alpha", "bravo", "charlie")
        await bravo.stop()
        message = await alpha.take_call("2001", b"once")
        for site in (charlie, alpha):
            move(site, "2001", "charlie")
            await site.restart()
        await quiet(60)
        assert charlie.delivered() == [], "the old home may have it: nobody asked it yet"
        await bravo.start()  # with the old configuration: it would still take the message in
        await eventually(lambda: charlie.delivered() == [message.message_id])
        await quiet()
        assert bravo.delivered() == []
        assert [event.home for event in alpha.of_kind(MessageRequeued)] == ["charlie"]

    run(main())


def test_message_that_a_restored_home_lost_follows_its_mailbox():
    async def main():
        alpha, bravo, charlie = await started("alpha", "bravo", "charlie")
        backup = bravo.disk.copy()
        message = await alpha.take_call("2001", b"again")
        await eventually(lambda: bool(alpha.of_kind(MessageMigrated)))
        for site in (alpha, charlie):
            move(site, "2001", "charlie")
            await site.restart()
        move(bravo, "2001", "charlie")
        await bravo.restart(backup)
        await eventually(lambda: charlie.delivered() == [message.message_id])
        await quiet()
        assert bravo.delivered() == []
        assert charlie.audio_of(message) == b"again"
        homes = [event.home for event in alpha.of_kind(MessageMigrated)]
        assert homes == ["bravo", "charlie"]

    run(main())


def test_message_that_a_restored_home_lost_is_unsettled_again():
    async def main():
        alpha, bravo = await started("alpha", "bravo")
        backup = bravo.disk.copy()
        message = await alpha.take_call("2001")
        await eventually(lambda: bool(alpha.of_kind(MessageMigrated)))
        move(bravo, "2001", "alpha")  # only there: the origin still takes bravo for its home
        await bravo.restart(backup)
        await eventually(lambda: bool(alpha.of_kind(MigrationRefused)))
        [waiting] = await find_unsettled(alpha.log, alpha.homes)
        assert (waiting.message_id, waiting.home) == (message.message_id, "bravo")
        assert waiting.refused
        move(alpha, "2001", "alpha")
        await alpha.restart()
        await eventually(lambda: alpha.delivered() == [message.message_id])

    run(main())


def test_message_for_a_server_that_left_the_configuration_meanwhile_follows_its_mailbox():
    """The caller began to speak before; the server started anew, and nobody asks the old home."""

    async def main():
        alpha, bravo, charlie = await started("alpha", "bravo", "charlie")
        await bravo.stop()
        for site in (charlie, alpha):
            move(site, "2*", "charlie")
            leave(site, "bravo")
            await site.restart()
        await quiet()
        message = await alpha.take_call("2001", b"late", home="bravo")
        await eventually(lambda: charlie.delivered() == [message.message_id])
        assert charlie.audio_of(message) == b"late"
        assert [event.home for event in alpha.of_kind(MessageRequeued)] == ["charlie"]

    run(main())


def test_message_whose_delivery_a_log_that_was_cut_lacks_is_delivered_at_the_next_start():
    """A copy may end within a commit: between a message at its home and its delivery."""

    async def main():
        (alpha,) = await started("alpha")
        message = await alpha.take_call("1001", home="alpha")
        assert alpha.delivered() == []
        for _ in range(2):
            await alpha.restart()
            await quiet()
            assert alpha.delivered() == [message.message_id]

    run(main())
