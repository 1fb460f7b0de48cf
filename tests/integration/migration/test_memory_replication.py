"""Two and three servers in one process, on virtual time: what the migration module promises."""

import asyncio
import random
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from ledger.configuration import BandwidthPlan, Directory, Replication
from ledger.configuration.bandwidth import Hours
from ledger.errors import TransientError
from ledger.events import (
    GreetingRemoved,
    IncarnationStarted,
    MessageDelivered,
    MessageHeard,
    MessageMigrated,
    MessageRequeued,
    MigrationRefused,
)
from ledger.ids import MailboxAddress, mailbox_stream_id
from ledger.migration.link import Route
from ledger.migration.origin import OriginState
from ledger.migration.receipts import verify_receipt
from tests.support.sites import START, Site, VirtualClock, eventually, make_sites, quiet, run


async def started(*names: str, **extensions: str) -> list[Site]:
    sites = make_sites(names or ("alpha", "bravo"), **extensions)
    for site in sites.values():
        await site.start()
    return list(sites.values())


def migrated(site: Site) -> list:
    return [event.message_id for event in site.of_kind(MessageMigrated)]


def test_message_for_a_home_that_is_up_arrives_and_is_receipted():
    async def main():
        alpha, bravo = await started()
        message = await alpha.take_call("2001", b"bon jour")
        assert await alpha.deliveries.deliver_now(message.message_id, "bravo", 1.5)
        assert bravo.delivered() == [message.message_id]
        assert bravo.audio_of(message) == b"bon jour"
        [event] = alpha.of_kind(MessageMigrated)
        verify_receipt(event.receipt, bravo.identity.public_key)
        assert event.receipt.origin_position >= 3

    run(main())


def test_messages_held_while_the_home_is_down_arrive_once_in_order_and_bit_exact():
    async def main():
        alpha, bravo = await started()
        await bravo.stop()
        messages = [await alpha.take_call("2001", bytes([n]) * 100) for n in range(11)]
        assert not await alpha.deliveries.deliver_now(messages[0].message_id, "bravo", 1.5)
        await quiet(200)
        await bravo.start()
        await eventually(lambda: len(migrated(alpha)) == 11)
        await quiet()
        assert bravo.delivered() == [m.message_id for m in messages]
        assert [bravo.audio_of(m) for m in messages] == [bytes([n]) * 100 for n in range(11)]
        assert migrated(alpha) == [m.message_id for m in messages]

    run(main())


def test_home_that_returns_wakes_its_origins_at_once():
    async def main():
        alpha, bravo = await started()
        await bravo.stop()
        message = await alpha.take_call("2001")
        await quiet(3000)
        returned_s = VirtualClock().monotonic_s()
        await bravo.start()
        await eventually(lambda: message.message_id in migrated(alpha))
        assert VirtualClock().monotonic_s() - returned_s < 5

    run(main())


def test_lost_answers_do_not_double_anything():
    async def main():
        alpha, bravo = await started()
        left = 5

        async def lose(route: Route, answer: bytes) -> bytes:
            nonlocal left
            if route is Route.BATCH and left:
                left -= 1
                raise TransientError("lost")
            return answer

        alpha.links["bravo"].after = lose
        messages = [await alpha.take_call("2001", bytes([n])) for n in range(6)]
        await eventually(lambda: len(migrated(alpha)) == 6)
        assert left == 0
        assert bravo.delivered() == [m.message_id for m in messages]
        assert len(bravo.of_kind(MessageDelivered)) == 6

    run(main())


def test_refusal_whose_answer_was_lost_is_not_taken_for_an_arrival():
    async def main():
        alpha, bravo = await started()
        is_lost = False

        async def lose_first(route: Route, answer: bytes) -> bytes:
            nonlocal is_lost
            if route is Route.BATCH and not is_lost:
                is_lost = True
                raise TransientError("lost")
            return answer

        alpha.links["bravo"].after = lose_first
        message = await alpha.take_call("1001", home="bravo")
        await eventually(lambda: bool(alpha.of_kind(MigrationRefused)))
        assert is_lost
        assert alpha.of_kind(MessageMigrated) == []
        assert bravo.delivered() == []
        assert message.message_id

    run(main())


def test_batch_that_arrives_twice_changes_nothing():
    async def main():
        alpha, bravo = await started()
        batches: list[bytes] = []

        async def note(route: Route, body: bytes) -> bytes:
            if route is Route.BATCH:
                batches.append(body)
            return body

        alpha.links["bravo"].before = note
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        before = bravo.disk.recorder.head()
        for batch in batches:
            await bravo.receiver.handle("alpha", Route.BATCH, batch)
        assert batches
        assert bravo.disk.recorder.head() == before

    run(main())


def test_pipelined_batches_may_overtake_each_other():
    async def main():
        alpha, bravo = await started()
        await bravo.stop()
        messages = [await alpha.take_call("2001", bytes([n])) for n in range(12)]
        order: list[int] = []

        async def delay_odd(route: Route, body: bytes) -> bytes:
            if route is Route.BATCH:
                order.append(len(order))
                if len(order) % 2:
                    await asyncio.sleep(0.5)
            return body

        alpha.links["bravo"].before = delay_odd
        await bravo.start()
        await eventually(lambda: len(migrated(alpha)) == 12)
        assert len(order) == 3
        assert bravo.delivered() == [m.message_id for m in messages]

    run(main())


def test_batch_without_its_predecessor_is_a_gap_and_the_origin_recovers():
    async def main():
        alpha, bravo = await started()
        await bravo.stop()
        for n in range(12):
            await alpha.take_call("2001", bytes([n]))
        lost = 0

        async def lose_first(route: Route, body: bytes) -> bytes:
            nonlocal lost
            if route is Route.BATCH and not lost:
                lost += 1
                await asyncio.sleep(60)
                raise TransientError("lost")
            return body

        alpha.links["bravo"].before = lose_first
        await bravo.start()
        await eventually(lambda: len(migrated(alpha)) == 12)
        assert len(set(bravo.delivered())) == len(bravo.delivered()) == 12

    run(main())


def test_home_restored_from_an_old_backup_gets_everything_again():
    async def main():
        alpha, bravo = await started()
        first = await alpha.take_call("2001", b"one")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = bravo.disk.copy()
        second = await alpha.take_call("2001", b"two")
        await eventually(lambda: len(migrated(alpha)) == 2)
        await bravo.restart(backup)
        assert bravo.delivered() == [first.message_id]
        await eventually(lambda: len(bravo.delivered()) == 2)
        await quiet()
        assert bravo.delivered() == [first.message_id, second.message_id]
        assert bravo.audio_of(second) == b"two"
        assert migrated(alpha) == [first.message_id, second.message_id]

    run(main())


def test_empty_home_gets_everything_again():
    async def main():
        alpha, bravo = await started()
        messages = [await alpha.take_call("2001", bytes([n])) for n in range(9)]
        backup = bravo.disk.copy()
        await eventually(lambda: len(migrated(alpha)) == 9)
        await bravo.restart(backup)
        await eventually(lambda: len(bravo.delivered()) == 9)
        assert bravo.delivered() == [m.message_id for m in messages]

    run(main())


def test_origin_that_went_back_starts_a_new_incarnation_and_doubles_nothing():
    async def main():
        alpha, bravo = await started()
        first = await alpha.take_call("2001", b"one")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        second = await alpha.take_call("2001", b"two")
        await eventually(lambda: len(migrated(alpha)) == 2)
        before = alpha.disk.recorder.head().incarnation
        await alpha.restart(backup)
        third = await alpha.take_call("2001", b"three")
        await eventually(lambda: third.message_id in migrated(alpha))
        await quiet(100)
        assert bravo.delivered() == [m.message_id for m in (first, second, third)]
        assert alpha.disk.recorder.head().incarnation != before
        assert len(alpha.of_kind(IncarnationStarted)) == 1

    run(main())


def test_origin_that_forgot_an_incarnation_starts_another_one():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001", b"one")
        await eventually(lambda: len(migrated(alpha)) == 1)
        backup = alpha.disk.copy()
        await alpha.take_call("2001", b"two")
        await eventually(lambda: len(migrated(alpha)) == 2)
        for _ in range(2):
            await alpha.restart(backup.copy())
            message = await alpha.take_call("2001", b"more")
            await eventually(lambda m=message: m.message_id in migrated(alpha))
        await quiet(200)
        assert len(bravo.delivered()) == len(set(bravo.delivered())) == 4
        known = {event.previous for event in alpha.of_kind(IncarnationStarted)}
        assert len(known) == 2

    run(main())


def test_second_server_with_the_same_identity_halts_and_the_first_goes_on():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001", b"one")
        await eventually(lambda: len(migrated(alpha)) == 1)
        clone = make_sites()["alpha"]
        clone.links["bravo"]._home = bravo
        clone.disk = alpha.disk.copy()
        clone.rng.seed(99)
        await alpha.take_call("2001", b"two")
        await eventually(lambda: len(migrated(alpha)) == 2)
        await clone.start()
        await clone.take_call("2001", b"three")
        await eventually(lambda: len(bravo.delivered()) == 3)
        await eventually(lambda: alpha.deliveries.statuses()[0].state is OriginState.HALTED)
        message = await clone.take_call("2001", b"four")
        await eventually(lambda: message.message_id in migrated(clone))

    run(main())


def test_both_ends_restored_lose_and_double_nothing_that_either_still_has():
    async def main():
        alpha, bravo = await started()
        messages = [await alpha.take_call("2001", bytes([n])) for n in range(3)]
        await eventually(lambda: len(migrated(alpha)) == 3)
        origin, home = alpha.disk.copy(), bravo.disk.copy()
        await alpha.take_call("2001", b"later")
        await eventually(lambda: len(migrated(alpha)) == 4)
        await bravo.restart(home)
        await alpha.restart(origin)
        last = await alpha.take_call("2001", b"last")
        await eventually(lambda: last.message_id in migrated(alpha))
        await quiet(100)
        delivered = bravo.delivered()
        assert len(delivered) == len(set(delivered))
        assert {m.message_id for m in (*messages, last)} <= set(delivered)

    run(main())


def test_refused_message_is_held_and_others_go_on():
    async def main():
        alpha, bravo = await started()
        wrong = await alpha.take_call("9999", home="bravo")
        right = await alpha.take_call("2001")
        await eventually(lambda: right.message_id in migrated(alpha))
        [refused] = alpha.of_kind(MigrationRefused)
        assert (refused.message_id, refused.reason) == (wrong.message_id, "not-my-mailbox")
        await quiet(100)
        assert len(alpha.of_kind(MigrationRefused)) == 1
        assert bravo.delivered() == [right.message_id]

    run(main())


def test_refused_message_follows_its_mailbox():
    async def main():
        alpha, bravo, charlie = await started("alpha", "bravo", "charlie")
        message = await alpha.take_call("3001", b"moved", home="bravo")
        await eventually(lambda: charlie.delivered() == [message.message_id])
        await eventually(lambda: migrated(alpha) == [message.message_id])
        [requeued] = alpha.of_kind(MessageRequeued)
        assert (requeued.home, requeued.reason) == ("charlie", "mailbox-moved")
        assert bravo.delivered() == []

    run(main())


def test_message_whose_mailbox_moved_here_is_delivered_here():
    async def main():
        alpha, bravo = await started()
        message = await alpha.take_call("1001", b"mine", home="bravo")
        await eventually(lambda: alpha.delivered() == [message.message_id])
        assert bravo.delivered() == []

    run(main())


def test_message_for_a_home_that_left_the_configuration_follows_its_mailbox_at_the_start():
    async def main():
        alpha, bravo = await started()
        await alpha.stop()
        message = await alpha.take_call("2001", b"orphan", home="gone")
        await alpha.start()
        await eventually(lambda: message.message_id in migrated(alpha))
        assert bravo.delivered() == [message.message_id]

    run(main())


def test_requeued_message_is_tried_again():
    async def main():
        alpha, bravo = await started()
        message = await alpha.take_call("2001", b"retry")
        stored = alpha.disk.blobs.loose.pop(message.blob)
        await eventually(lambda: bool(alpha.of_kind(MigrationRefused)))
        alpha.disk.blobs.loose[message.blob] = stored
        await alpha.deliveries.requeue(message.originator_id, message.message_id)
        await eventually(lambda: message.message_id in migrated(alpha))
        assert bravo.audio_of(message) == b"retry"

    run(main())


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_message_whose_audio_is_lost_at_the_origin_does_not_hold_up_others(damage):
    async def main():
        alpha, bravo = await started()
        await bravo.stop()
        first, poison, last = [await alpha.take_call("2001", bytes([n]) * 9) for n in range(3)]
        stored, at = alpha.disk.blobs.loose.pop(poison.blob)
        if damage == "corrupt":
            alpha.disk.blobs.loose[poison.blob] = (stored[:-1] + bytes([stored[-1] ^ 1]), at)
        await bravo.start()
        await eventually(lambda: len(migrated(alpha)) == 2)
        assert bravo.delivered() == [first.message_id, last.message_id]
        [refused] = alpha.of_kind(MigrationRefused)
        assert (refused.message_id, refused.reason) == (poison.message_id, f"audio-{damage}")

    run(main())


def test_recording_that_is_not_what_its_event_says_is_refused_alone():
    async def main():
        alpha, bravo = await started()
        await bravo.stop()
        good = await alpha.take_call("2001", b"good")
        other = await alpha.take_call("2001", b"other")
        lying = msgspec.structs.replace(
            other,
            originator_version=4,
            message_id=alpha.new_id(),
            audio=msgspec.structs.replace(other.audio, digest="0" * 64),
        )
        await alpha.log.append_events([lying])
        await bravo.start()
        await eventually(lambda: bool(alpha.of_kind(MigrationRefused)))
        await eventually(lambda: len(migrated(alpha)) == 2)
        [refused] = alpha.of_kind(MigrationRefused)
        assert (refused.message_id, refused.reason) == (lying.message_id, "bad-audio")
        assert bravo.delivered() == [good.message_id, other.message_id]

    run(main())


def test_home_whose_disk_is_full_gets_everything_once_there_is_room():
    async def main():
        alpha, bravo = await started()
        is_full = True
        put_pack = bravo.disk.blobs.put_pack

        def full(blobs):
            if is_full:
                raise TransientError("disk full", retry_after_s=3)
            return put_pack(blobs)

        bravo.disk.blobs.put_pack = full
        message = await alpha.take_call("2001")
        await quiet(120)
        tries = alpha.links["bravo"].seen.count(Route.BATCH)
        assert bravo.delivered() == []
        assert 5 < tries < 60, "it tries again, but not in a hot loop"
        is_full = False
        await eventually(lambda: message.message_id in migrated(alpha))

    run(main())


def test_origin_whose_disk_is_full_records_receipts_later():
    async def main():
        alpha, bravo = await started()
        message = await alpha.take_call("2001")
        commit = alpha.disk.recorder._transact
        is_full = True

        def full(appends):
            if is_full:
                raise TransientError("disk full")
            return commit(appends)

        alpha.disk.recorder._transact = full
        await eventually(lambda: bravo.delivered() == [message.message_id])
        await quiet(20)
        is_full = False
        await eventually(lambda: migrated(alpha) == [message.message_id])
        assert bravo.delivered() == [message.message_id]

    run(main())


def test_lost_cursor_only_means_that_batches_are_sent_again():
    async def main():
        alpha, bravo = await started()
        await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        alpha.disk.cursors.cursors.clear()
        await alpha.restart()
        message = await alpha.take_call("2001")
        await eventually(lambda: message.message_id in migrated(alpha))
        assert len(bravo.delivered()) == len(migrated(alpha)) == 2

    run(main())


def test_damaged_bytes_on_the_way_change_nothing():
    async def main():
        alpha, bravo = await started()
        rng, damaged = random.Random(5), 0

        async def flip(_route: Route, body: bytes) -> bytes:
            nonlocal damaged
            if rng.random() < 0.7:
                return body
            damaged += 1
            at = rng.randrange(len(body))
            return body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :]

        alpha.links["bravo"].before = alpha.links["bravo"].after = flip
        messages = [await alpha.take_call("2001", bytes([n]) * 50) for n in range(6)]
        await eventually(lambda: len(migrated(alpha)) == 6, within_s=20_000)
        await quiet(1000)
        assert damaged > 20
        assert bravo.delivered() == [m.message_id for m in messages]
        assert alpha.of_kind(MigrationRefused) == []
        assert alpha.of_kind(IncarnationStarted) == []

    run(main())


def test_what_a_user_does_to_a_pending_message_arrives_with_it():
    async def main():
        alpha, bravo = await started()
        await bravo.stop()
        message = await alpha.take_call("2001")
        heard = MessageHeard(
            originator_id=message.originator_id,
            originator_version=4,
            recorded_at=message.recorded_at,
            recorded_by="alpha",
            message_id=message.message_id,
            by="2001",
        )
        await alpha.log.append_events([heard])
        await bravo.start()
        await eventually(lambda: bravo.of_kind(MessageHeard) == [heard])
        assert bravo.delivered() == [message.message_id]

    run(main())


def test_dead_home_does_not_delay_another():
    async def main():
        alpha, bravo, charlie = await started("alpha", "bravo", "charlie")
        await bravo.stop()
        for _ in range(20):
            await alpha.take_call("2001")
        message = await alpha.take_call("3001")
        assert await alpha.deliveries.deliver_now(message.message_id, "charlie", 1.5)
        assert charlie.delivered() == [message.message_id]

    run(main())


def test_idle_servers_do_not_storm_each_other():
    async def main():
        alpha, bravo = await started()
        await quiet(1000)
        for one, other in ((alpha, "bravo"), (bravo, "alpha")):
            assert 150 < len(one.links[other].seen) < 250
            assert set(one.links[other].seen) == {Route.CONTACT}

    run(main())


def test_servers_whose_answers_get_lost_do_not_wake_each_other_without_end():
    async def main():
        alpha, bravo = await started()

        async def lose(_route: Route, _answer: bytes) -> bytes:
            raise TransientError("lost")

        alpha.links["bravo"].after = bravo.links["alpha"].after = lose
        await quiet(1000)
        assert len(alpha.links["bravo"].seen) < 1500

    run(main())


def test_foreign_events_stand_in_the_home_log_byte_for_byte():
    async def main():
        alpha, bravo = await started()
        message = await alpha.take_call("2001")
        await eventually(lambda: len(migrated(alpha)) == 1)
        stream = message.originator_id
        theirs = bravo.disk.recorder.read_streams([stream])[stream]
        ours = alpha.disk.recorder.read_streams([stream])[stream][:3]
        assert [e.plain for e in theirs] == [e.plain for e in ours]
        assert [e.origin_position for e in theirs] == [e.position for e in ours]
        assert {e.origin for e in theirs} == {"alpha"}

    run(main())


def limit(site: Site, peer: str, bytes_per_s: int) -> None:
    """Allow a site only so much to one peer; before it is started."""
    plan_bandwidth(site, peer, BandwidthPlan(bytes_per_s=bytes_per_s))


def plan_bandwidth(site: Site, peer: str, plan: BandwidthPlan) -> None:
    entries = [
        msgspec.structs.replace(entry, bandwidth=plan) if entry.id == peer else entry
        for entry in site.directory.servers.values()
    ]
    site.directory = Directory(site.id, entries)


def test_backlog_keeps_the_limit_to_its_home_and_delays_no_other():
    async def main():
        sites = make_sites(("alpha", "bravo", "charlie"))
        alpha, bravo, _ = sites.values()
        limit(alpha, "bravo", 4096)
        for site in sites.values():
            await site.start()
        went: list[tuple[float, int]] = []

        async def note(route: Route, body: bytes) -> bytes:
            if route is Route.BATCH:
                went.append((VirtualClock().monotonic_s(), len(body)))
            return body

        alpha.links["bravo"].before = note
        held = [await alpha.take_call("2001", random.Random(n).randbytes(1500)) for n in range(40)]
        other = await alpha.take_call("3001")
        assert await alpha.deliveries.deliver_now(other.message_id, "charlie", 1.5)
        assert not await alpha.deliveries.deliver_now(held[-1].message_id, "bravo", 1.5)
        await eventually(lambda: len(migrated(alpha)) == 41)
        assert bravo.delivered() == [m.message_id for m in held]
        begin_s, sent = went[0][0], 0
        for at_s, size_bytes in went:
            assert sent <= 4096 * (at_s - begin_s) + 1, "what went before is paid for"
            sent += size_bytes
        assert sent > 40 * 1500
        assert max(size for _, size in went) < 3 * 4096, "batches are small under a limit"

    run(main())


def test_limit_holds_in_its_hours_only():
    async def main():
        sites = make_sites()
        alpha, bravo = sites.values()
        begin = VirtualClock().now() + timedelta(minutes=2)
        hours = Hours(begin.time(), (begin + timedelta(minutes=2)).time(), 2048)
        plan_bandwidth(alpha, "bravo", BandwidthPlan(hours=(hours,)))
        for site in sites.values():
            await site.start()

        sound = random.Random(7)

        async def seconds_for_a_backlog() -> float:
            begin_s, before = VirtualClock().monotonic_s(), len(migrated(alpha))
            for _ in range(20):
                await alpha.take_call("2001", sound.randbytes(1500))
            await eventually(lambda: len(migrated(alpha)) == before + 20)
            return VirtualClock().monotonic_s() - begin_s

        assert await seconds_for_a_backlog() < 5
        await asyncio.sleep(130)
        # The last body goes before it is paid for: it holds two seconds' worth at most.
        assert await seconds_for_a_backlog() > 20 * 1500 / 2048 - 3
        await asyncio.sleep(130)
        assert await seconds_for_a_backlog() < 5
        assert len(bravo.delivered()) == 60

    run(main())


def test_message_larger_than_the_limit_of_a_second_goes_all_the_same():
    async def main():
        sites = make_sites()
        limit(sites["alpha"], "bravo", 1024)
        for site in sites.values():
            await site.start()
        message = await sites["alpha"].take_call("2001", random.Random(1).randbytes(100_000))
        await eventually(lambda: sites["bravo"].delivered() == [message.message_id])

    run(main())


def test_long_streams_travel_in_batches_that_their_home_reads(caplog):
    async def main():
        sites = make_sites()
        alpha, bravo = sites.values()
        alpha.settings = Replication()
        await alpha.start()
        stream = mailbox_stream_id(MailboxAddress("1001"), "alpha", UUID(int=1))
        removed = [
            GreetingRemoved(
                originator_id=stream,
                originator_version=version,
                recorded_at=START,
                recorded_by="alpha",
                mailbox="1001@default",
                kind="busy",
                by="x" * 2000,  # instead of some thousand events
            )
            for version in range(1, 301)
        ]
        await alpha.log.append_events(removed)
        await alpha.take_call("2001")
        await bravo.start()
        await eventually(lambda: len(migrated(alpha)) == 1)
        assert bravo.of_kind(GreetingRemoved) == removed

    run(main())
    assert not [r for r in caplog.messages if "action=rejected" in r or "action=alarm" in r]
