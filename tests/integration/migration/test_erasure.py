"""A key that is destroyed on one server goes everywhere, and comes back from nowhere."""

from uuid import UUID

from ledger.caller import CallerState
from ledger.events import CallErased, ErasureAnswered, MessageErased, MigrationRefused
from ledger.ids import erasure_stream_id
from ledger.migration.batch_builder import Delivery
from ledger.migration.settlement import Outcome, Settlement
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from tests.support.sites import Site, eventually, make_sites, quiet, run


async def started(*names: str) -> list[Site]:
    sites = make_sites(names or ("alpha", "bravo"))
    for site in sites.values():
        await site.start()
    return list(sites.values())


async def erase(site: Site, call_id: UUID, *told_to: str, messages: tuple[UUID, ...] = ()) -> None:
    """Destroy a key as `ledger.server.erasure` does."""
    event = CallErased(
        originator_id=erasure_stream_id(call_id),
        originator_version=1,
        recorded_at=site.clock.now(),
        recorded_by=site.id,
        call_id=call_id,
        message_ids=messages,
        told_to=told_to,
        by="operator",
        reason="asked",
    )
    await site.log.append(Append([to_stored_event(event)], keys=site.vault.destroy([call_id])))


def state(site: Site, call_id: UUID) -> CallerState:
    return site.caller_of(call_id).state


def test_server_that_took_the_call_destroys_its_key_when_the_home_erases_it():
    async def main():
        alpha, bravo, charlie = await started("alpha", "bravo", "charlie")
        message = await alpha.take_call("2001")
        other = await alpha.take_call("2001")
        await eventually(lambda: len(bravo.delivered()) == 2)
        await erase(bravo, message.originator_id, "alpha")
        await eventually(lambda: state(alpha, message.originator_id) is CallerState.ERASED)
        assert state(alpha, other.originator_id) is CallerState.KNOWN
        await quiet()
        assert charlie.of_kind(CallErased) == [], "it was not told"

    run(main())


def test_server_that_never_had_the_call_notes_that_its_key_is_destroyed():
    async def main():
        alpha, _bravo, charlie = await started("alpha", "bravo", "charlie")
        message = await alpha.take_call("1001", home="alpha")
        await erase(alpha, message.originator_id, "bravo", "charlie")
        await eventually(lambda: len(charlie.of_kind(CallErased)) == 1)
        assert charlie.vault.keys([message.originator_id]) == {message.originator_id: None}

    run(main())


def test_restored_backup_of_the_server_that_erased_learns_it_from_its_peers():
    async def main():
        alpha, bravo = await started()
        message = await alpha.take_call("1001", home="alpha")
        await bravo.take_call("1002")  # alpha's log is known to bravo
        await eventually(lambda: len(alpha.delivered()) == 1)
        await alpha.take_call("2001")
        await eventually(lambda: len(bravo.delivered()) == 1)
        backup = alpha.disk.copy()
        await erase(alpha, message.originator_id, "bravo")
        await eventually(lambda: len(bravo.of_kind(CallErased)) == 1)
        await alpha.restart(backup)
        assert state(alpha, message.originator_id) is CallerState.KNOWN, "a key of that day"
        await eventually(lambda: state(alpha, message.originator_id) is CallerState.ERASED)

    run(main())


def test_restored_backup_of_a_server_that_was_told_is_told_again():
    async def main():
        alpha, bravo = await started()
        message = await alpha.take_call("2001")
        await eventually(lambda: len(bravo.delivered()) == 1)
        backup = alpha.disk.copy()
        await erase(bravo, message.originator_id, "alpha")
        await eventually(lambda: state(alpha, message.originator_id) is CallerState.ERASED)
        await alpha.restart(backup)
        assert state(alpha, message.originator_id) is CallerState.KNOWN
        await eventually(lambda: state(alpha, message.originator_id) is CallerState.ERASED)

    run(main())


def test_message_that_its_home_forgot_is_not_sent_again_once_its_key_is_destroyed():
    async def main():
        alpha, bravo = await started()
        first = await alpha.take_call("2001")
        await eventually(lambda: len(bravo.delivered()) == 1)
        backup = bravo.disk.copy()
        gone = await alpha.take_call("2001")
        await eventually(lambda: len(bravo.delivered()) == 2)
        await erase(bravo, gone.originator_id, "alpha")
        await eventually(lambda: state(alpha, gone.originator_id) is CallerState.ERASED)
        await bravo.restart(backup)
        await eventually(lambda: len(bravo.of_kind(CallErased)) == 1)
        last = await alpha.take_call("2001")
        await eventually(lambda: last.message_id in bravo.delivered())
        await quiet()
        assert bravo.delivered() == [first.message_id, last.message_id]
        assert alpha.of_kind(MigrationRefused) == []

    run(main())


def test_message_that_a_restored_server_sends_again_is_erased_there_too():
    async def main():
        alpha, bravo = await started()
        alpha.links["bravo"].is_cut = True
        message = await alpha.take_call("2001")
        backup = alpha.disk.copy()
        alpha.links["bravo"].is_cut = False
        await eventually(lambda: len(bravo.delivered()) == 1)
        alpha.links["bravo"].is_cut = True
        await alpha.restart(backup)
        await erase(bravo, message.originator_id, "alpha", messages=(message.message_id,))
        await eventually(lambda: len(alpha.of_kind(MessageErased)) == 1)
        assert state(alpha, message.originator_id) is CallerState.ERASED
        alpha.links["bravo"].is_cut = False
        await quiet()
        assert bravo.delivered() == [message.message_id]
        assert alpha.of_kind(MigrationRefused) == []

    run(main())


def test_key_of_a_message_that_waits_is_not_destroyed_by_who_does_not_know_it():
    async def main():
        alpha, bravo = await started()
        bravo.links["alpha"].is_cut = False
        alpha.links["bravo"].is_cut = True
        message = await alpha.take_call("2001")
        await erase(bravo, message.originator_id, "alpha")
        await quiet()
        assert state(alpha, message.originator_id) is CallerState.KNOWN
        assert alpha.of_kind(CallErased) == []
        alpha.links["bravo"].is_cut = False
        await eventually(lambda: bool(alpha.of_kind(MigrationRefused)))
        [refused] = alpha.of_kind(MigrationRefused)
        assert refused.reason == "key-destroyed"
        assert alpha.audio_of(message) == b"hello", "it is held, and can be heard"
        [kept] = bravo.of_kind(ErasureAnswered)
        assert (kept.server, kept.reason) == ("alpha", "still-needed")
        assert str(message.message_id) in kept.detail, "what else is to be erased, and where"
        await erase(alpha, message.originator_id, "bravo", messages=(message.message_id,))
        await eventually(lambda: len(bravo.of_kind(ErasureAnswered)) == 2)
        assert bravo.of_kind(ErasureAnswered)[-1].reason == "", "it is destroyed there after all"
        await quiet()
        assert [e.recorded_by for e in bravo.of_kind(CallErased)] == ["bravo"]
        assert len(alpha.of_kind(CallErased)) == 1

    run(main())


def test_answer_of_a_server_that_keeps_its_key_is_recorded_once():
    async def main():
        alpha, bravo = await started()
        alpha.links["bravo"].is_cut = True
        message = await alpha.take_call("2001")
        backup = alpha.disk.copy()
        await erase(bravo, message.originator_id, "alpha")
        await eventually(lambda: len(bravo.of_kind(ErasureAnswered)) == 1)
        await alpha.restart(backup)
        await bravo.restart()
        await quiet()
        assert len(bravo.of_kind(ErasureAnswered)) == 1

    run(main())


def test_two_servers_that_erase_one_call_at_once_are_both_done():
    async def main():
        alpha, bravo, charlie = await started("alpha", "bravo", "charlie")
        message = await alpha.take_call("2001")
        await eventually(lambda: len(bravo.delivered()) == 1)
        alpha.links["bravo"].is_cut = bravo.links["alpha"].is_cut = True
        await erase(alpha, message.originator_id, "bravo", messages=(message.message_id,))
        await erase(bravo, message.originator_id, "alpha", messages=(message.message_id,))
        alpha.links["bravo"].is_cut = bravo.links["alpha"].is_cut = False
        await alpha.take_call("2002")
        await eventually(lambda: len(bravo.delivered()) == 2)
        await quiet()
        for site in (alpha, bravo):
            assert [e.recorded_by for e in site.of_kind(CallErased)] == [site.id]
            assert site.of_kind(ErasureAnswered) == [], "nobody keeps a key"
        assert charlie.of_kind(CallErased) == []

    run(main())


def test_message_that_its_home_forgot_and_refuses_as_erased_is_erased_at_its_origin():
    async def main():
        alpha, bravo = await started()
        message = await alpha.take_call("2001")
        await eventually(lambda: len(bravo.delivered()) == 1)
        call_id, message_id = message.originator_id, message.message_id
        await erase(bravo, call_id, "alpha", messages=(message_id,))
        await eventually(lambda: len(alpha.of_kind(CallErased)) == 1)
        delivery = Delivery(3, call_id, message_id, message.originator_version)
        refused = Outcome(delivery, "bravo", reason="key-destroyed", detail="its home forgot it")
        await Settlement(alpha.log, alpha.clock, alpha.homes).record([refused])
        assert len(alpha.of_kind(MigrationRefused)) == 1
        [erased] = alpha.of_kind(MessageErased)
        assert (erased.message_id, erased.reason) == (message_id, "asked")

    run(main())
