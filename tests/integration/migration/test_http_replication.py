"""Replication over real sockets on loopback: mutual TLS, signed requests, bounded bodies."""

import asyncio
import contextlib
import gc
import random
import ssl
import weakref
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from ledger.clock import SystemClock
from ledger.configuration import BandwidthPlan, Configuration, Directory, load_configuration
from ledger.errors import PeerError, TransientError
from ledger.events import MessageMigrated
from ledger.identity import ServerIdentity, generate_identity, load_identity
from ledger.migration.admission import Admission
from ledger.migration.http_link import HttpLink
from ledger.migration.http_receiver import ReplicationApp
from ledger.migration.http_signature import sign_request
from ledger.migration.link import Route
from ledger.migration.protocol import OriginState
from ledger.migration.receipts import verify_receipt
from ledger.migration.tls import client_context, server_context
from ledger.migration.wire import MEDIA_TYPE, MissingRequest
from ledger.migration.wire_bytes import decode_answer, encode_request
from ledger.offload import ThreadOffload
from ledger.storage.disk_room import DiskRoom
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.open_recorder import open_recorder
from ledger.storage.sql_peer_cursors import SqlCursorStore
from tests.support.processes import free_ports
from tests.support.sites import Disk, Site, eventually
from vmledger.cluster import write_cluster
from vmledger.connections import Doorkeeper, DoorLimits
from vmledger.init import init_server
from vmledger.serving import bind, make_server, serve_until_stopped

QUESTION = encode_request(MissingRequest(digests=()))


class LoopbackSite(Site):
    """A site that speaks HTTPS, with real time and threads."""

    def __init__(self, config: Configuration, seed: int) -> None:
        identity = load_identity(config.server, config.identity.signing_key)
        super().__init__(config.server, config.directory, identity.private_key, seed)
        self.config = config
        self.settings = config.replication
        self.clock = SystemClock()
        self.offload = ThreadOffload(2)
        self.links = {
            peer.id: HttpLink(
                peer,
                identity=self.identity,
                tls=client_context(config.identity, peer.certificate),
                settings=config.replication,
                clock=self.clock,
                offload=self.offload,
                rng=self.rng,
            )
            for peer in config.directory.peers
        }

    async def serve(self) -> None:
        app = ReplicationApp(
            self.receiver,
            directory=self.directory,
            clock=self.clock,
            offload=self.offload,
            body_timeout_s=2,
            room=DiskRoom([self.config.data], self.config.limits),
        )
        listener = bind(self.config.replication_address, "listen.replication")
        tls = server_context(self.config)
        doorkeeper = Doorkeeper(DoorLimits(most=100, head_timeout_s=10, body_timeout_s=10))
        self.server = make_server(app, listener, grace_s=1, doorkeeper=doorkeeper, tls=tls)
        self.ended = asyncio.Event()
        self.serving = asyncio.create_task(serve_until_stopped([self.server], self.ended))

    async def stop(self) -> None:
        if self.is_up:
            self.is_up = False
            await self.deliveries.stop()
        self.ended.set()
        await self.serving
        self.server.listener.close()


@pytest.fixture
def configs(tmp_path: Path) -> list[Configuration]:
    a, b, c, d = free_ports(4)
    files = write_cluster(
        tmp_path,
        ["alpha", "bravo"],
        {"alpha": ["1*"], "bravo": ["2*"]},
        {"alpha": (a, b), "bravo": (c, d)},
    )
    return [load_configuration(file) for file in files]


@asynccontextmanager
async def serving(*configs: Configuration):
    sites = [LoopbackSite(config, seed) for seed, config in enumerate(configs)]
    for site in sites:
        await site.start()
        await site.serve()
    try:
        yield sites
    finally:
        for site in sites:
            await site.stop()
            site.offload.close()


def on_disk(site: LoopbackSite) -> None:
    """Put a site on the stores that a real server uses."""
    url = site.config.stores.events
    blobs = FilesystemBlobStore(site.config.data / "blobs")
    site.disk = Disk(open_recorder(url), blobs, SqlCursorStore(url))


def link_of(
    config: Configuration,
    *,
    identity: ServerIdentity | None = None,
    tls: ssl.SSLContext | None = None,
    port: int | None = None,
    timeout_s: float | None = None,
) -> HttpLink:
    peer = config.directory.peers[0]
    if port is not None:
        peer = msgspec.structs.replace(peer, url=f"https://127.0.0.1:{port}")
    settings = config.replication
    if timeout_s is not None:
        settings = msgspec.structs.replace(settings, request_timeout_s=timeout_s)
    own = identity or load_identity(config.server, config.identity.signing_key)
    return HttpLink(
        peer,
        identity=own,
        tls=tls or client_context(config.identity, peer.certificate),
        settings=settings,
        clock=SystemClock(),
        offload=ThreadOffload(1),
        rng=random.Random(1),
    )


async def ask(link: HttpLink, body: bytes = QUESTION, route: Route = Route.MISSING) -> bytes:
    try:
        return await link.exchange(route, body)
    finally:
        await link.close()


async def post(config: Configuration, path: str, body: bytes, headers: dict[str, str]) -> int:
    peer = config.directory.peers[0]
    connector = aiohttp.TCPConnector(ssl=client_context(config.identity, peer.certificate))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"{peer.url}{path}", data=body, headers=headers) as response,
    ):
        return response.status


def signed(config: Configuration, body: bytes, /, **changes) -> dict[str, str]:
    peer = config.directory.peers[0]
    arguments = {
        "identity": load_identity(config.server, config.identity.signing_key),
        "receiver": peer.id,
        "url": f"{peer.url}/replication/missing",
        "content_type": MEDIA_TYPE,
        "body": body,
        "now": SystemClock().now(),
        "nonce": "1",
    }
    return sign_request(**(arguments | changes))


def test_message_travels_over_https_and_its_receipt_verifies(configs):
    async def main():
        async with serving(*configs) as (alpha, bravo):
            message = await alpha.take_call("2001", b"\x7f" * 200_000)
            assert await alpha.deliveries.deliver_now(message.message_id, "bravo", 20)
            assert bravo.audio_of(message) == b"\x7f" * 200_000
            [event] = alpha.of_kind(MessageMigrated)
            verify_receipt(event.receipt, bravo.identity.public_key)

    asyncio.run(main())


def test_backlog_on_real_stores_arrives_once_and_in_order(configs):
    async def main():
        alpha, bravo = (LoopbackSite(config, seed) for seed, config in enumerate(configs))
        for site in (alpha, bravo):
            on_disk(site)
        await alpha.start()
        await alpha.serve()
        messages = [await alpha.take_call("2001", bytes([n]) * 50_000) for n in range(150)]
        await bravo.start()
        await bravo.serve()
        try:
            last = messages[-1].message_id
            assert await alpha.deliveries.deliver_now(last, "bravo", 60)
            assert bravo.delivered() == [m.message_id for m in messages]
            assert [bravo.audio_of(m)[0] for m in messages] == list(range(150))
            assert [e.message_id for e in alpha.of_kind(MessageMigrated)] == bravo.delivered()
            await eventually(lambda: alpha.deliveries.statuses()[0].state is OriginState.IDLE)
        finally:
            for site in (alpha, bravo):
                await site.stop()
                site.offload.close()
                site.disk.recorder.close()
                site.disk.cursors.close()
        reopened = SqlCursorStore(alpha.config.stores.events)
        assert reopened.load("bravo").position >= 450
        reopened.close()

    asyncio.run(main())


def test_both_directions_work_at_the_same_time(configs):
    async def main():
        async with serving(*configs) as (alpha, bravo):
            there = await alpha.take_call("2001", b"there")
            back = await bravo.take_call("1001", b"back")
            arrived = await asyncio.gather(
                alpha.deliveries.deliver_now(there.message_id, "bravo", 20),
                bravo.deliveries.deliver_now(back.message_id, "alpha", 20),
            )
            assert arrived == [True, True]

    asyncio.run(main())


def test_probe_finds_the_peer_that_is_there_and_misses_the_one_that_is_not(configs):
    async def main():
        async with serving(configs[1]) as (bravo,):
            link = link_of(configs[0])
            await link.probe()
            await link.close()
            with pytest.raises(TransientError):
                await bravo.links["alpha"].probe()

    asyncio.run(main())


def test_request_with_the_right_signature_is_answered(configs):
    async def main():
        async with serving(configs[1]):
            assert decode_answer(await ask(link_of(configs[0])), "bravo").digests == ()

    asyncio.run(main())


def test_request_signed_with_another_key_is_refused(configs):
    async def main():
        async with serving(configs[1]):
            with pytest.raises(PeerError, match="401"):
                await ask(link_of(configs[0], identity=generate_identity("alpha")))

    asyncio.run(main())


def test_request_of_an_unknown_server_is_refused(configs):
    async def main():
        async with serving(configs[1]):
            with pytest.raises(PeerError, match="401"):
                await ask(link_of(configs[0], identity=generate_identity("zulu")))

    asyncio.run(main())


def test_client_without_a_pinned_certificate_does_not_get_in(configs, tmp_path):
    async def main():
        stranger = load_configuration(init_server(tmp_path / "x", "alpha").configuration_file)
        pinned = configs[0].directory.peers[0].certificate
        tls = client_context(stranger.identity, pinned)
        async with serving(configs[1]):
            with pytest.raises((TransientError, PeerError)):
                await ask(link_of(configs[0], tls=tls))

    asyncio.run(main())


def test_server_that_shows_another_certificate_is_not_spoken_to(configs):
    async def main():
        own = configs[0].identity
        tls = client_context(own, own.tls_certificate)  # pins another certificate than bravo's
        async with serving(configs[1]):
            with pytest.raises(PeerError, match="pins"):
                await ask(link_of(configs[0], tls=tls))

    asyncio.run(main())


def test_line_that_spoils_the_handshake_is_no_question_of_certificates(configs):
    """The way is at fault, not the peer: try again, and alarm nobody about a certificate."""

    async def spoil(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*far)
            await pump(reader, far_writer, lambda data: data)
            await pump(far_reader, writer, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
        finally:
            for end in (writer, far_writer):
                end.close()

    async def pump(reader, writer, change) -> None:
        writer.write(change(await reader.read(65536)))
        await writer.drain()

    far = configs[1].replication_address

    async def main():
        port = configs[0].replication_address.port
        async with serving(configs[1]), await asyncio.start_server(spoil, "127.0.0.1", port):
            link = link_of(configs[0], port=port)
            with pytest.raises(TransientError, match=r"does not answer.*SSL"):
                await ask(link)

    asyncio.run(main())


def test_answer_that_is_too_long_is_not_read_to_its_end(configs):
    async def main():
        async with serving(configs[1]) as (bravo,):
            bravo.receiver.handle = lambda *_: asyncio.sleep(0, bytes(16 * 1024 * 1024 + 1))
            with pytest.raises(PeerError, match="too long"):
                await ask(link_of(configs[0]))

    asyncio.run(main())


def test_large_answer_comes_whole_and_the_connection_serves_the_next(configs):
    large = bytes(range(256)) * 40_000

    async def main():
        async with serving(configs[1]) as (bravo,):
            link = link_of(configs[0])
            bravo.receiver.handle = lambda *_: asyncio.sleep(0, large)
            for _ in range(3):
                assert await link.exchange(Route.BLOBS, QUESTION) == large
            await link.close()

    asyncio.run(main())


def test_connection_that_the_peer_closed_meanwhile_is_made_anew(configs):
    async def main():
        link = link_of(configs[0])
        for _ in range(2):
            async with serving(configs[1]):
                assert decode_answer(await link.exchange(Route.MISSING, QUESTION), "bravo")
        with pytest.raises(TransientError, match="bravo does not answer"):
            await link.exchange(Route.MISSING, QUESTION)
        await link.close()

    asyncio.run(main())


def test_answer_that_is_cut_is_no_answer(configs):
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnot so much")
        writer.close()

    async def main():
        where = configs[1].replication_address
        tls = server_context(configs[1])
        async with await asyncio.start_server(cut, where.host, where.port, ssl=tls):
            link = link_of(configs[0])
            for _ in range(2):
                with pytest.raises(TransientError, match="bravo does not answer"):
                    await ask(link)

    asyncio.run(main())


def test_peer_that_says_nothing_is_given_up_in_time(configs):
    async def main():
        async with serving(configs[1]) as (bravo,):
            let_go = asyncio.Event()
            bravo.receiver.handle = lambda *_: let_go.wait()
            with pytest.raises(TransientError, match="bravo does not answer"):
                async with asyncio.timeout(10):
                    await ask(link_of(configs[0], timeout_s=0.3))
            let_go.set()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"receiver": "charlie"}, 401),
        ({"url": "https://x/replication/batch"}, 401),
        ({"body": b"another body"}, 400),
        ({"now": SystemClock().now().replace(year=2020)}, 401),
        ({"content_type": "application/vnd.vmledger.batch; version=9"}, 415),
    ],
)
def test_what_the_signature_covers_cannot_be_changed(configs, changes, status):
    async def main():
        headers = signed(configs[0], QUESTION, **changes)
        async with serving(configs[1]):
            assert await post(configs[0], "/replication/missing", QUESTION, headers) == status

    asyncio.run(main())


def test_unsigned_request_is_refused(configs):
    async def main():
        async with serving(configs[1]):
            headers = {"content-type": MEDIA_TYPE}
            assert await post(configs[0], "/replication/missing", QUESTION, headers) == 401

    asyncio.run(main())


def test_oversize_body_is_refused_before_it_is_read(configs):
    async def main():
        body = b"x" * (1024 * 1024 + 1)
        async with serving(configs[1]):
            status = await post(configs[0], "/replication/missing", body, signed(configs[0], body))
            assert status == 413

    asyncio.run(main())


def test_unknown_route_and_method_are_refused(configs):
    async def main():
        async with serving(configs[1]):
            assert await post(configs[0], "/replication/nothing", b"", {}) == 404
            assert await post(configs[0], "/replication/ping", b"", {}) == 405

    asyncio.run(main())


def test_batch_that_waited_too_long_is_answered_busy_with_a_pause(configs):
    async def main():
        async with serving(configs[1]) as (bravo,), contextlib.AsyncExitStack() as full:
            bravo.receiver.admission = Admission(4, random.Random(1), max_wait_s=0.2)
            for origin in "xxyy":
                await full.enter_async_context(bravo.receiver.admission.enter(origin, 1))
            answer = await ask(link_of(configs[0]), b"any", Route.BATCH)
            assert decode_answer(answer, "bravo").retry_after_s > 0

    asyncio.run(main())


def test_batch_that_finds_the_house_full_is_taken_in_as_soon_as_there_is_a_place(configs):
    async def main():
        async with serving(*configs) as (alpha, bravo), contextlib.AsyncExitStack() as full:
            bravo.receiver.admission = Admission(4, random.Random(1))
            for origin in "xxyy":
                await full.enter_async_context(bravo.receiver.admission.enter(origin, 1))
            await alpha.take_call("2001", b"a message")
            await asyncio.sleep(0.5)
            assert not bravo.delivered()
            await full.aclose()
            await eventually(lambda: len(bravo.delivered()) == 1)
            assert alpha.deliveries.statuses()[0].problem == ""

    asyncio.run(main())


def test_body_of_a_batch_that_is_answered_busy_is_let_go_at_once(configs):
    """Not when Python looks for cycles the next time: it may be hundreds of megabytes."""
    errors = []

    async def main():
        async with serving(configs[1]) as (bravo,):

            async def refuse(*_: object) -> bytes:
                error = TransientError("not now")
                errors.append(weakref.ref(error))  # its traceback holds the frame with the body
                try:
                    raise error
                finally:
                    del error

            bravo.receiver.handle = refuse
            await ask(link_of(configs[0]), b"any", Route.BATCH)
            await asyncio.sleep(0.1)
            assert [error() for error in errors] == [None]

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_request_that_a_stop_cuts_off_is_answered_busy(configs, caplog):
    async def main():
        async with serving(configs[1]) as (bravo,):

            async def hang(*_: object) -> bytes:
                bravo.ended.set()
                await asyncio.Event().wait()
                return b""

            bravo.receiver.handle = hang
            answer = await ask(link_of(configs[0]))
            assert decode_answer(answer, "bravo").retry_after_s == 5

    asyncio.run(main())
    assert not [record for record in caplog.records if record.exc_info], "no trace of a bug"


def test_body_that_stalls_is_given_up(configs):
    async def main():
        async def slowly():
            yield QUESTION[:5]
            await asyncio.Event().wait()

        headers = signed(configs[0], QUESTION) | {"content-length": str(len(QUESTION))}
        async with serving(configs[1]):
            async with asyncio.timeout(20):
                status = await post(configs[0], "/replication/missing", slowly(), headers)
            assert status == 408

    asyncio.run(main())


def test_limit_holds_on_the_wire(configs):
    """Counted in bytes against the clock: however slow the machine is, never more may go."""
    own, peer = configs[0].directory.servers.values()
    limited = msgspec.structs.replace(peer, bandwidth=BandwidthPlan(bytes_per_s=60_000))
    directory = Directory(own.id, [own, limited])
    alpha_config = msgspec.structs.replace(configs[0], directory=directory)
    went: list[tuple[float, int]] = []

    async def main():
        async with serving(alpha_config, configs[1]) as (alpha, bravo):
            exchange = alpha.links["bravo"].exchange

            async def note(route: Route, body: bytes) -> bytes:
                if route is Route.BATCH:
                    went.append((alpha.clock.monotonic_s(), len(body)))
                return await exchange(route, body)

            alpha.links["bravo"].exchange = note
            for number in range(12):
                await alpha.take_call("2001", random.Random(number).randbytes(20_000))
            await eventually(lambda: len(bravo.delivered()) == 12)

    asyncio.run(main())
    sent = 0
    for at_s, size_bytes in went:
        assert sent <= 60_000 * (at_s - went[0][0]) + 1000
        sent += size_bytes
    assert sent > 12 * 20_000
    assert len(went) > 1
