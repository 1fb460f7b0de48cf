"""The composition root: one server from its configuration, and the one place that picks adapters.

`compose` opens everything in the order in which it depends on each other and closes it in the
reverse one, also when something in the middle cannot be opened: what takes requests ends first,
then the work that the server does by itself, then the threads that may use a store, and the stores
last. `run` is a server process from start to exit.

Source: claims 1, 8 and 15.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

import uvloop
from litestar.types import ASGIApp

from ledger.clock import SystemClock
from ledger.configuration import ApiTls, Configuration, Homes, load_configuration
from ledger.configuration.master_key import open_master_key
from ledger.events import ServerId
from ledger.identity import load_identity
from ledger.ids import new_id_factory
from ledger.migration.http_receiver import ReplicationApp
from ledger.migration.known_homes import load_homes
from ledger.migration.link import PeerLink
from ledger.migration.log_sharing import Acknowledged
from ledger.migration.tls import server_context
from ledger.offload import ThreadOffload
from ledger.server import ServerParts, VoicemailServer
from ledger.storage.blob_store import BlobStore
from ledger.storage.callers import Callers
from ledger.storage.disk_room import DiskRoom
from ledger.storage.event_log import LogRecorder
from ledger.storage.group_commit import EventLog
from ledger.storage.log_copy import CopyShelf
from ledger.storage.log_reserve import LogReserve
from ledger.storage.mailbox_states import MailboxStates
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.open_recorder import open_recorder, open_reserve
from ledger.storage.server_stream import ServerStream
from ledger.storage.spool import Spool
from ledger.storage.sql_cosigned_checkpoints import SqlCosignedCheckpoints
from ledger.storage.sql_peer_cursors import SqlCursorStore
from ledger.storage.vault import Vault
from projections.pending import Pending
from vmledger.blob_needs import needed_blobs
from vmledger.connections import Doorkeeper, DoorLimits
from vmledger.data_lock import DataLock
from vmledger.http.application import create_app
from vmledger.http.measures import Measures
from vmledger.http.parts import ApiParts
from vmledger.http.questions import CopyReaders, Questions
from vmledger.http.upload import UploadGate
from vmledger.logs import LogFormat, configure_logs
from vmledger.peer_links import open_link
from vmledger.read_models import ReadModels, open_for_serving
from vmledger.recovery_folder import expect_recovered
from vmledger.replication import Replication
from vmledger.serving import (
    Server,
    allow_many_files,
    bind,
    make_server,
    serve_until_stopped,
    stop_on_signals,
    tell_lost_connections_shortly,
)
from vmledger.stores import open_room, token_engine
from vmledger.tokens import TokenStore, ensure_local_operator_token
from vmledger.watch import Watch, stop_watch
from vmledger.whole_story import StoryCollector
from vmledger.witnessed import WitnessedUpTo, read_cosigned

_LOG: Final = logging.getLogger(__name__)
API: Final = "api"
REPLICATION: Final = "replication"
DISTRIBUTION: Final = "voicemail-ledger"


@dataclass(frozen=True, slots=True)
class Stores:
    """What a server keeps, open, and the threads that use it."""

    recorder: LogRecorder
    log: EventLog
    homes: Homes
    mailboxes: MailboxStates
    blobs: BlobStore
    spool: Spool
    vault: Vault
    cursors: SqlCursorStore
    checkpoints: SqlCosignedCheckpoints
    shelf: CopyShelf
    tokens: TokenStore
    read_models: ReadModels
    server_stream: ServerStream
    offload: ThreadOffload
    blob_offload: ThreadOffload
    """Threads that may all wait for the blob store; nobody else does then."""
    clock: SystemClock
    room: DiskRoom
    reserve: LogReserve | None


@dataclass(frozen=True, slots=True)
class Program:
    """A server whose parts are open and at work; only nobody can reach it yet."""

    config: Configuration
    stores: Stores
    server: VoicemailServer
    replication: Replication
    api: ASGIApp
    """The HTTP API."""
    peers_app: ReplicationApp
    """What the other servers talk to."""
    doors: Mapping[str, Doorkeeper]
    """Who keeps the two listeners: API and REPLICATION."""

    @property
    def tokens(self) -> TokenStore:
        """The access tokens of the API."""
        return self.stores.tokens


@asynccontextmanager
async def compose(config: Configuration) -> AsyncIterator[Program]:
    """Open a server from its configuration; its own work runs until the block ends.

    Nobody else may work on its data directory meanwhile (`DataLock`). Raises CallerError for a
    database of a newer program, TransientError for a store that cannot be reached.
    """
    async with AsyncExitStack() as stack:
        stores = _open_stores(config, stack)
        measures = Measures()
        doors = _make_doors(config, measures)
        watch = _make_watch(config, stores, doors)
        watching = asyncio.create_task(watch.run(), name="watch")
        stack.push_async_callback(stop_watch, watching)
        replication, peers_app = _make_replication(config, stores)
        replication.receiver.on_busy = partial(measures.note_busy, "batches")
        stack.push_async_callback(replication.stop)
        server = _make_server(config, stores, replication)
        stack.push_async_callback(server.stop)
        await server.start()
        await replication.start()
        yield Program(
            config=config,
            stores=stores,
            server=server,
            replication=replication,
            api=_make_api(
                config, stores, server, replication, measures=measures, watch=watch, doors=doors
            ),
            peers_app=peers_app,
            doors=doors,
        )


def _open_stores(config: Configuration, stack: AsyncExitStack) -> Stores:
    """Open all stores, each with its end on the stack: threads end before what they use."""
    clock = SystemClock()
    room = open_room(config)
    reserve = open_reserve(config.stores.events, config.limits.log_reserve_bytes)
    recorder = open_recorder(config.stores.events, reserve)
    stack.callback(recorder.close)
    engine = token_engine(config.stores.events)
    stack.callback(engine.dispose)
    tokens = TokenStore(engine, clock)
    ensure_local_operator_token(config.data, tokens)
    cursors = SqlCursorStore(config.stores.events)
    stack.callback(cursors.close)
    checkpoints = SqlCosignedCheckpoints(config.stores.events)
    stack.callback(checkpoints.close)
    shelf = CopyShelf(config.mirrors)
    stack.callback(shelf.close)
    read_models = open_for_serving(config, recorder, clock, room)
    stack.callback(read_models.close)
    offload = ThreadOffload()
    stack.callback(offload.close)
    blob_offload = ThreadOffload()
    stack.callback(blob_offload.close)
    log = EventLog(recorder, offload)
    log.add_listener(read_models.log_grew)
    read_models.start()
    vault = Vault(recorder, open_master_key(config.identity), os.urandom)
    return Stores(
        recorder=recorder,
        log=log,
        homes=load_homes(recorder, config.directory),
        mailboxes=MailboxStates(log),
        blobs=open_blob_store(config.stores.blobs),
        spool=Spool(config.spool, find_key=vault.key),
        vault=vault,
        cursors=cursors,
        checkpoints=checkpoints,
        shelf=shelf,
        tokens=tokens,
        read_models=read_models,
        server_stream=ServerStream(config.server, log, clock),
        offload=offload,
        blob_offload=blob_offload,
        clock=clock,
        room=room,
        reserve=reserve,
    )


def _make_doors(config: Configuration, measures: Measures) -> dict[str, Doorkeeper]:
    limits = config.limits
    places = {API: limits.api_connections, REPLICATION: limits.replication_connections}
    return {
        name: Doorkeeper(
            DoorLimits(most, limits.head_timeout_s, limits.body_timeout_s),
            partial(measures.note_shed_connection, name),
        )
        for name, most in places.items()
    }


def _make_watch(config: Configuration, stores: Stores, doors: Mapping[str, Doorkeeper]) -> Watch:
    return Watch(
        config,
        room=stores.room,
        reserve=stores.reserve,
        pending=Pending(stores.read_models.store).homes,
        doors=doors,
        clock=stores.clock,
        offload=stores.offload,
    )


def _make_replication(config: Configuration, stores: Stores) -> tuple[Replication, ReplicationApp]:
    identity = load_identity(config.server, config.identity.signing_key)
    rng = random.Random(os.urandom(16))  # noqa: S311 - spreads retries, keeps no secret

    links: dict[ServerId, PeerLink] = {
        peer.id: open_link(config, peer, stores.clock, stores.offload)
        for peer in config.directory.peers
    }
    replication = Replication(
        config,
        stores.homes,
        identity=identity,
        links=links,
        log=stores.log,
        blobs=stores.blobs,
        vault=stores.vault,
        cursors=stores.cursors,
        checkpoints=stores.checkpoints,
        server_stream=stores.server_stream,
        clock=stores.clock,
        offload=stores.blob_offload,
        new_id=new_id_factory(stores.clock.now, os.urandom),
        rng=rng,
        find_call=stores.read_models.call_of,
        shelf=stores.shelf,
        needed=partial(_needed_by, config, stores.clock),
    )
    peers_app = ReplicationApp(
        replication.receiver,
        directory=config.directory,
        clock=stores.clock,
        offload=stores.offload,
        body_timeout_s=config.replication.request_timeout_s,
        room=stores.room,
    )
    return replication, peers_app


def _needed_by(
    config: Configuration, clock: SystemClock, recorder: LogRecorder, server: ServerId
) -> set[str]:
    """Read which blobs another server must have. Its own retention may be shorter, never ours."""
    keep_for = timedelta(days=config.retention.keep_audio_days_after_delivery)
    return needed_blobs(recorder, server, keep_for, clock.now())


def _make_server(
    config: Configuration, stores: Stores, replication: Replication
) -> VoicemailServer:
    parts = ServerParts(
        config=config,
        homes=stores.homes,
        log=stores.log,
        mailboxes=stores.mailboxes,
        blobs=stores.blobs,
        spool=stores.spool,
        vault=stores.vault,
        clock=stores.clock,
        offload=stores.offload,
        blob_offload=stores.blob_offload,
        new_id=new_id_factory(stores.clock.now, os.urandom),
        random_bytes=os.urandom,
        server_stream=stores.server_stream,
        reachability=replication.reachability,
        deliveries=replication.deliveries,
    )
    return VoicemailServer(parts, software_version=version(DISTRIBUTION))


def _make_api(
    config: Configuration,
    stores: Stores,
    server: VoicemailServer,
    replication: Replication,
    *,
    measures: Measures,
    watch: Watch,
    doors: Mapping[str, Doorkeeper],
) -> ASGIApp:
    identity = load_identity(config.server, config.identity.signing_key)

    def witnesses() -> Sequence[WitnessedUpTo]:
        return read_cosigned(config, identity, stores.recorder, stores.checkpoints).how_far()

    def mirrors() -> Mapping[ServerId, Acknowledged]:
        return replication.sharing.acknowledged if replication.sharing else {}

    callers = Callers(stores.vault)
    questions = Questions(
        config,
        stores.homes,
        stores.read_models,
        stores.clock,
        callers=callers,
        live_evidence=replication.reachability.evidence,
        witnesses=witnesses,
        copies=CopyReaders(
            acknowledged=mirrors,
            copied=lambda: replication.mirroring.states if replication.mirroring else (),
        ),
    )
    return create_app(
        ApiParts(
            config=config,
            homes=stores.homes,
            identity=identity,
            server=server,
            log=stores.log,
            questions=questions,
            stories=StoryCollector(
                config.server,
                replication.receiver.stories,
                replication.links,
                callers=callers,
                offload=stores.offload,
            ),
            tokens=stores.tokens,
            clock=stores.clock,
            offload=stores.offload,
            measures=measures,
            uploads=UploadGate(config.limits, stores.room, partial(measures.note_busy, "uploads")),
            room=stores.room,
            watch=watch,
            doors=doors,
            checkpoints=stores.checkpoints,
            peer_statuses=replication.deliveries.statuses,
            mirrors=mirrors,
            reserve=stores.reserve,
        )
    )


async def serve(config: Configuration) -> None:
    """Serve until SIGTERM or SIGINT, then end gracefully.

    Raises ConflictError when another process serves the same data directory, CallerError for an
    address that cannot be listened at, and what `compose` raises.
    """
    stop = asyncio.Event()
    allow_many_files()
    tell_lost_connections_shortly()
    async with AsyncExitStack() as stack:
        stack.enter_context(DataLock(config.data))
        expect_recovered(config.data)
        api_listener = stack.enter_context(bind(config.api_address, "listen.api"))
        listener = stack.enter_context(bind(config.replication_address, "listen.replication"))
        stack.enter_context(stop_on_signals(stop))
        program = await stack.enter_async_context(compose(config))
        grace_s = config.limits.shutdown_grace_s
        api_tls = _api_tls(config.api_tls)
        servers: list[Server] = [
            make_server(
                program.api,
                api_listener,
                grace_s=grace_s,
                doorkeeper=program.doors[API],
                tls=api_tls,
            ),
            make_server(
                program.peers_app,
                listener,
                grace_s=grace_s,
                doorkeeper=program.doors[REPLICATION],
                tls=server_context(config),
            ),
        ]
        _LOG.info(
            "action=serving server=%s api=%s replication=%s data=%s",
            config.server,
            config.api_address,
            config.replication_address,
            config.data,
        )
        gc.freeze()  # what is loaded by now stays; to look through it again and again is a pause
        await serve_until_stopped(servers, stop)
    _LOG.info("action=stopped server=%s", config.server)


def run(config_file: Path, *, log_format: str = LogFormat.TEXT.value) -> None:
    """Run one server process until it is told to stop.

    Raises ConfigurationError for a doubtful configuration, and what `serve` raises.
    """
    configure_logs(LogFormat(log_format))
    config = load_configuration(config_file)
    uvloop.run(serve(config))


def _api_tls(files: ApiTls | None) -> ssl.SSLContext | None:
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    return context
