"""Servers sign each other's checkpoints, and none can go back behind what was signed."""

import asyncio
from uuid import UUID

from ledger.checkpoint import (
    Checkpoint,
    cosigned_at,
    log_name,
    parse_checkpoint,
    sign_checkpoint,
    witness_key,
)
from ledger.errors import TransientError
from ledger.events import ForkWitnessed, IncarnationStarted
from ledger.migration.incarnations import Incarnations
from ledger.migration.link import Route
from ledger.migration.wire import Busy, Cosigned, Rejected, Witnessed, WitnessRequest
from ledger.migration.wire_bytes import decode_answer, encode_request
from ledger.storage.merkle_proofs import consistency_proof
from tests.support.sites import Disk, eventually, make_sites, quiet, run


async def start(sites) -> None:
    for site in sites.values():
        site.is_witnessed = True
        await site.start()


def signed_size(log_of, witness) -> int:
    head = log_of.disk.recorder.head()
    row = log_of.disk.checkpoints.newest(log_name(log_of.id, head.incarnation), witness.id)
    return row.size if row is not None else 0


def request_for(
    site, size, old_size, *, root=None, proof=None, to="bravo", incarnation=None, is_new=False
) -> bytes:
    recorder = site.disk.recorder
    log = log_name(site.id, incarnation or recorder.head().incarnation)
    checkpoint = Checkpoint(log, size, root or recorder.root_at(size))
    if proof is None:
        proof = consistency_proof(old_size, size, recorder.read_hashes)
    return encode_request(
        WitnessRequest(
            origin=site.id,
            home=to,
            checkpoint=sign_checkpoint(checkpoint, site.identity).to_text(),
            old_size=old_size,
            proof=tuple(digest.hex() for digest in proof),
            is_new_history=is_new,
        )
    )


async def ask(site, body, sender="alpha"):
    return decode_answer(await site.receiver.handle(sender, Route.WITNESS, body), site.id)


async def grown(site, calls: int) -> None:
    for _ in range(calls):
        await site.take_call("100")


def test_all_peers_sign_where_a_log_is_and_both_sides_keep_it():
    async def main() -> None:
        sites = make_sites(["alpha", "bravo", "charlie"])
        alpha, bravo, charlie = sites.values()
        await start(sites)
        await grown(alpha, 3)
        size = alpha.disk.recorder.head().position
        for witness in (bravo, charlie):
            await eventually(lambda w=witness: signed_size(alpha, w) == size, 30)
            log = log_name("alpha", alpha.disk.recorder.head().incarnation)
            here = alpha.disk.checkpoints.newest(log, witness.id)
            there = witness.disk.checkpoints.newest(log, witness.id)
            note, checkpoint = parse_checkpoint(here.note)
            assert checkpoint.root == alpha.disk.recorder.root_at(size)
            assert cosigned_at(note, witness_key(witness.id, witness.identity.public_key))
            assert parse_checkpoint(there.note)[0].text == note.text

    run(main())


def test_signatures_of_all_peers_come_together_under_one_checkpoint():
    async def main() -> None:
        sites = make_sites(["alpha", "bravo", "charlie"])
        alpha, *_ = sites.values()
        await start(sites)
        for _ in range(20):
            await alpha.take_call("200")
            await asyncio.sleep(1.7)
        log = log_name("alpha", alpha.disk.recorder.head().incarnation)
        rows = [row for row in alpha.disk.checkpoints.all() if row.log == log]
        signed = {w: {row.size for row in rows if row.witness == w} for w in ("bravo", "charlie")}
        common = signed["bravo"] & signed["charlie"]
        assert max(common) >= alpha.disk.recorder.head().position - 40

    run(main())


def test_log_that_does_not_grow_is_not_signed_again():
    async def main() -> None:
        sites = make_sites()
        alpha, bravo = sites.values()
        await start(sites)
        await grown(alpha, 1)
        await eventually(lambda: signed_size(alpha, bravo) == 3, 30)
        before = alpha.links["bravo"].seen.count(Route.WITNESS)
        await quiet(60)
        assert alpha.links["bravo"].seen.count(Route.WITNESS) == before
        assert bravo.links["alpha"].seen.count(Route.WITNESS) == 0

    run(main())


def test_witnessing_that_fails_keeps_no_message_back():
    async def main() -> None:
        sites = make_sites()
        alpha, bravo = sites.values()

        async def fail(route: Route, body: bytes) -> bytes:
            if route is Route.WITNESS:
                await asyncio.sleep(7)
                raise TransientError("no answer in time")
            return body

        alpha.links["bravo"].before = fail
        await start(sites)
        message = await alpha.take_call("200")
        await eventually(lambda: message.message_id in bravo.delivered(), 2)
        await quiet(60)
        assert signed_size(alpha, bravo) == 0
        alpha.links["bravo"].before = None
        await eventually(lambda: signed_size(alpha, bravo) > 0, 30)

    run(main())


def test_lost_answer_does_not_keep_the_next_checkpoint_from_being_signed():
    async def main() -> None:
        sites = make_sites()
        alpha, bravo = sites.values()
        lost = []

        async def lose_first(route: Route, answer: bytes) -> bytes:
            if route is Route.WITNESS and not lost:
                lost.append(answer)
                raise TransientError("no answer in time")
            return answer

        alpha.links["bravo"].after = lose_first
        await start(sites)
        await grown(alpha, 2)
        await eventually(lambda: bool(lost), 30)
        await grown(alpha, 1)
        await eventually(lambda: signed_size(alpha, bravo) == 9, 30)
        assert not bravo.of_kind(ForkWitnessed)

    run(main())


def test_history_that_was_rewritten_gets_no_signature_and_is_recorded_with_its_evidence():
    async def main() -> None:
        sites = make_sites()
        alpha, bravo = sites.values()
        await bravo.start()
        alpha.disk.recorder.root_at(0)
        await alpha.start()
        await grown(alpha, 2)
        assert isinstance(await ask(bravo, request_for(alpha, 5, 0)), Cosigned)
        for forked in (
            request_for(alpha, 5, 5, root=b"x" * 32, proof=[]),
            request_for(alpha, 6, 5, root=b"x" * 32),
            request_for(alpha, 6, 5, proof=[b"y" * 32] * 3),
        ):
            answer = await ask(bravo, forked)
            assert isinstance(answer, Witnessed)
            assert parse_checkpoint(answer.note)[1].size == 5
        (fork,) = bravo.of_kind(ForkWitnessed)
        assert fork.peer == "alpha"
        first, second = (parse_checkpoint(text) for text in (fork.witnessed, fork.conflicting))
        assert first[1].log == second[1].log
        assert (first[1].size, first[1].root) != (second[1].size, second[1].root)
        assert signed_size(bravo, bravo) == 0
        assert isinstance(await ask(bravo, request_for(alpha, 6, 5)), Cosigned)

    run(main())


def test_late_request_is_no_fork():
    async def main() -> None:
        sites = make_sites()
        alpha, bravo = sites.values()
        await bravo.start()
        await alpha.start()
        await grown(alpha, 2)
        early = request_for(alpha, 3, 0)
        assert isinstance(await ask(bravo, early), Cosigned)
        assert isinstance(await ask(bravo, request_for(alpha, 6, 3)), Cosigned)
        assert isinstance(await ask(bravo, early), Witnessed)
        assert isinstance(await ask(bravo, request_for(alpha, 4, 3)), Witnessed)
        assert not bravo.of_kind(ForkWitnessed)

    run(main())


def test_log_that_grows_two_branches_in_two_incarnations_is_recorded():
    """A clone goes on under a new incarnation; the first server knows nothing of that."""

    async def main() -> None:
        sites = make_sites()
        alpha, bravo = sites.values()
        await bravo.start()
        await alpha.start()
        await grown(alpha, 4)
        clone = UUID(int=99)
        asked = request_for(alpha, 3, 0)
        assert isinstance(await ask(bravo, asked), Cosigned)
        asked = request_for(alpha, 5, 3, incarnation=clone)
        assert isinstance(await ask(bravo, asked), Cosigned)
        asked = request_for(alpha, 6, 3)
        for _ in range(2):
            answer = await ask(bravo, asked)
            assert isinstance(answer, Witnessed), "a late frame may look like that"
            assert answer.note is not None
            assert parse_checkpoint(answer.note)[1].log == log_name("alpha", clone)
        assert not bravo.of_kind(ForkWitnessed)
        asked = request_for(alpha, 6, 2, is_new=True)
        answer = await ask(bravo, asked)
        assert isinstance(answer, Witnessed), "what was signed of it before must be its beginning"
        assert not bravo.of_kind(ForkWitnessed)
        asked = request_for(alpha, 6, 3, is_new=True)
        assert isinstance(await ask(bravo, asked), Cosigned)
        [fork] = bravo.of_kind(ForkWitnessed)
        assert parse_checkpoint(fork.witnessed)[1].log == log_name("alpha", clone)
        assert parse_checkpoint(fork.conflicting)[1].size == 6

    run(main())


def test_only_the_log_itself_gets_its_checkpoints_signed():
    async def main() -> None:
        sites = make_sites(["alpha", "bravo", "charlie"])
        alpha, bravo, charlie = sites.values()
        for site in sites.values():
            await site.start()
        await grown(alpha, 1)
        await grown(charlie, 1)
        body = request_for(alpha, 3, 0)
        assert isinstance(await ask(bravo, body, sender="charlie"), Rejected)
        charlie.id = "alpha"  # charlie says that it is alpha, and has its own key
        assert isinstance(await ask(bravo, request_for(charlie, 3, 0)), Rejected)
        assert bravo.disk.checkpoints.all() == []

    run(main())


def test_nothing_leaves_a_witness_that_cannot_keep_it():
    async def main() -> None:
        sites = make_sites()
        alpha, bravo = sites.values()
        await bravo.start()
        await alpha.start()
        await grown(alpha, 1)

        def no_room(_new, _after) -> bool:
            raise TransientError("the disk is full")

        add, bravo.disk.checkpoints.add = bravo.disk.checkpoints.add, no_room
        assert isinstance(await ask(bravo, request_for(alpha, 3, 0)), Busy)
        bravo.disk.checkpoints.add = add
        assert isinstance(await ask(bravo, request_for(alpha, 3, 0)), Cosigned)

    run(main())


def test_restored_log_is_told_by_its_witness_what_it_forgot_and_begins_a_new_incarnation():
    """Nothing of it concerned the witness but the signature."""

    async def main() -> None:
        sites = make_sites()
        alpha, bravo = sites.values()
        await start(sites)
        await grown(alpha, 2)
        await eventually(lambda: signed_size(alpha, bravo) == 6, 30)
        backup: Disk = alpha.disk.copy()
        await grown(alpha, 2)
        await eventually(lambda: signed_size(alpha, bravo) == 12, 30)
        old = alpha.disk.recorder.head().incarnation
        bravo.disk.recorder.image.tracking.clear()  # the witness alone remembers
        await alpha.restart(backup)
        await eventually(lambda: alpha.disk.recorder.head().incarnation != old, 30)
        assert [event.previous for event in alpha.of_kind(IncarnationStarted)] == [old]
        await eventually(lambda: signed_size(alpha, bravo) >= 7, 30)
        (seen,) = bravo.of_kind(ForkWitnessed)
        logs = [parse_checkpoint(note)[1].log for note in (seen.witnessed, seen.conflicting)]
        new = alpha.disk.recorder.head().incarnation
        assert logs == [log_name("alpha", old), log_name("alpha", new)]
        assert seen.incarnation == new

    run(main())


def test_log_that_keeps_its_history_in_a_new_incarnation_is_witnessed_without_an_alarm():
    async def main() -> None:
        sites = make_sites()
        alpha, bravo = sites.values()
        await start(sites)
        await grown(alpha, 2)
        await eventually(lambda: signed_size(alpha, bravo) == 6, 30)
        incarnations = Incarnations("alpha", alpha.log, alpha.clock, alpha.new_id)
        await incarnations.start_after(await incarnations.own_log(), (), "as a test wants it")
        await eventually(lambda: signed_size(alpha, bravo) >= 7, 30)
        assert not bravo.of_kind(ForkWitnessed)

    run(main())


def test_restored_witness_signs_on_from_what_it_remembers():
    async def main() -> None:
        sites = make_sites()
        alpha, bravo = sites.values()
        await start(sites)
        await grown(alpha, 1)
        await eventually(lambda: signed_size(alpha, bravo) == 3, 30)
        backup: Disk = bravo.disk.copy()
        await grown(alpha, 1)
        await eventually(lambda: signed_size(alpha, bravo) == 6, 30)
        await bravo.restart(backup)
        await grown(alpha, 1)
        await eventually(lambda: signed_size(alpha, bravo) >= 9, 60)
        assert not bravo.of_kind(ForkWitnessed)

    run(main())
