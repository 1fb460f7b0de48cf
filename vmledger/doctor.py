"""Examine a server's surroundings: what it stands on, and the others that it depends on.

Nothing is changed, and the server may run meanwhile. A check that cannot be made says so; it never
counts as passed.

Source: claims 4, 6, 10 and 13.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from ledger.clock import SystemClock
from ledger.configuration import Configuration, ServerEntry
from ledger.errors import LedgerError
from ledger.events import ForkWitnessed, WentBackAcknowledged, decode
from ledger.identity import load_identity
from ledger.ids import MailboxAddress
from ledger.migration.known_homes import load_homes
from ledger.migration.link import PeerClient
from ledger.migration.wire import LogState, LogStateRequest
from ledger.offload import ThreadOffload
from ledger.storage.log_copy import CURRENT_COPY, CopyShelf
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.open_recorder import open_reserve
from projections.pending import Pending, PendingHome
from projections.runner import ProjectionStatus
from projections.servers import Servers, WentBack
from vmledger.cli.api_client import OPERATOR_TOKEN
from vmledger.cli.output import show_age, show_size
from vmledger.cli.went_back import tell_went_back
from vmledger.peer_links import open_link
from vmledger.stores import open_checkpoints, open_log, open_read_models, open_room
from vmledger.went_back import is_of_one_log, read_acknowledged, read_forks
from vmledger.witnessed import WitnessedUpTo, read_cosigned

_PEER_TIMEOUT_S: Final = 3.0
_CLOCK_TOLERANCE: Final = timedelta(seconds=5)
_MANY_EVENTS: Final = 1000
_LOW_DISK_FACTOR: Final = 10
"""A warning comes at this many times the free space at which the server refuses recordings."""
_OTHER_FILES: Final = 200
"""Databases, blobs being read, connections to peers, and some air."""
_LONG_UNWITNESSED: Final = timedelta(days=1)
_SOFTWARE_MADE_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Verdict(Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def examine(config: Configuration) -> list[Check]:
    """Make all checks; the configuration itself has been loaded, so it passed its own."""
    examiners: list[tuple[str, Callable[[Configuration], Iterator[Check]]]] = [
        ("keys", _keys),
        ("data directory", _data),
        ("log", _log),
        ("homes", _homes),
        ("blobs", _blobs),
        ("projections", _projections),
        ("witnesses", _witnesses),
        ("mirrors", _mirrors),
        ("copies", _copies),
        ("peers", _peers),
    ]
    checks = [Check("configuration", Verdict.OK, str(config.file))]
    for name, examiner in examiners:
        try:
            checks += examiner(config)
        except (LedgerError, OSError) as error:
            checks.append(
                Check(name, Verdict.FAIL, str(error), "mend this first, then run doctor again")
            )
    return checks


def _keys(config: Configuration) -> Iterator[Check]:
    files = config.identity
    if files.master_key_command and files.master_key.exists():
        yield Check(
            files.master_key.name,
            Verdict.WARN,
            "lies open beside a command that gives the master key",
            f"see that the command gives the same key, then remove {files.master_key}",
        )
    for path in (*files.secrets, config.data / OPERATOR_TOKEN):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Check(
                path.name,
                Verdict.FAIL,
                f"mode {mode:04o}: others of this machine can read it",
                f"chmod 600 {path}",
            )
        else:
            yield Check(path.name, Verdict.OK, f"mode {mode:04o}")


def _data(config: Configuration) -> Iterator[Check]:
    data = config.data
    if not os.access(data, os.W_OK | os.X_OK):
        yield Check(
            "data directory",
            Verdict.FAIL,
            f"{data} is not writable for this user",
            "give it to the server's user, or run doctor as that user",
        )
        return
    yield Check("data directory", Verdict.OK, str(data))
    yield _disk(config)
    yield from _reserve(config)
    yield _open_files(config)


def _disk(config: Configuration) -> Check:
    """Judge the fullest file system that holds data, as the server itself does."""
    room, limits = open_room(config), config.limits
    free_bytes = room.free_bytes()
    if not room.is_open_for_recordings():
        verdict, advice = Verdict.FAIL, "free some space: the server takes no recordings now"
    elif not room.is_open_for_bulk():
        verdict, advice = Verdict.WARN, "free some space: batches of other servers wait there now"
    elif free_bytes < _LOW_DISK_FACTOR * limits.min_free_disk_bytes:
        verdict, advice = Verdict.WARN, "free some space soon"
    else:
        verdict, advice = Verdict.OK, ""
    found = (
        f"{show_size(free_bytes)}; no recordings below {show_size(limits.min_free_disk_bytes)}, "
        f"no batches below {show_size(limits.min_free_disk_for_batches_bytes)}"
    )
    return Check("free disk", verdict, found, advice)


def _reserve(config: Configuration) -> Iterator[Check]:
    reserve = open_reserve(config.stores.events, config.limits.log_reserve_bytes)
    if reserve is None or not reserve.size_bytes:
        return
    held_bytes = reserve.held_bytes()
    found = f"{show_size(held_bytes)} of {show_size(reserve.size_bytes)}"
    if not reserve.is_there():
        yield Check("log reserve", Verdict.OK, "none yet: the first start makes it")
    elif held_bytes < reserve.size_bytes:
        advice = "free some space: the server makes it whole again while it runs"
        yield Check("log reserve", Verdict.WARN, found, advice)
    else:
        yield Check("log reserve", Verdict.OK, found)


def _open_files(config: Configuration) -> Check:
    """Judge what this user may open: the server raises its own limit up to that."""
    limits = config.limits
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = limits.api_connections + limits.replication_connections
    needed += limits.concurrent_uploads + _OTHER_FILES
    found = f"{most} allowed, up to {needed} needed"
    if most < needed:
        advice = "raise it (LimitNOFILE=, ulimit -n), or lower the keys of [limits]"
        return Check("open files", Verdict.WARN, found, advice)
    return Check("open files", Verdict.OK, found)


def _log(config: Configuration) -> Iterator[Check]:
    with open_log(config) as recorder:
        head = recorder.head()
        yield Check("log", Verdict.OK, f"{head.position} events, incarnation {head.incarnation}")
        last = recorder.read(head.position, 1) if head.position else []
    written_at = decode(last[0].plain).recorded_at if last else None
    yield _clock(datetime.now(UTC), written_at)


def _homes(config: Configuration) -> Iterator[Check]:
    """Where the log and the configuration name different homes, the log counts."""
    with open_log(config) as recorder:
        homes = load_homes(recorder, config.directory)
    for mailbox, claim in sorted(homes.rehomed.items()):
        configured = config.directory.home_of(MailboxAddress.parse(mailbox))
        if claim.home not in config.directory.servers:
            yield Check(
                f"home of {mailbox}",
                Verdict.FAIL,
                f"it moved to {claim.home}, which the configuration does not name",
                f"add {claim.home} to the configuration, or take the mailbox at another server: "
                "vmledger mailbox rehome --force",
            )
        elif configured is None or configured.id != claim.home:
            told = configured.id if configured is not None else "none"
            yield Check(
                f"home of {mailbox}",
                Verdict.OK,
                f"{claim.home}, it moved (epoch {claim.epoch}); the configuration says {told}",
                "the log counts; make the configuration agree when it suits you",
            )


def _clock(now: datetime, last_written_at: datetime | None) -> Check:
    if now < _SOFTWARE_MADE_AT:
        return Check("clock", Verdict.FAIL, f"{now:%Y-%m-%d}", "set the clock; run an NTP client")
    if last_written_at is not None and last_written_at > now + _CLOCK_TOLERANCE:
        return Check(
            "clock",
            Verdict.WARN,
            f"the newest event is {show_age((last_written_at - now).total_seconds())} ahead of now",
            "the clock went back: check the NTP client",
        )
    return Check("clock", Verdict.OK, f"{now:%Y-%m-%d %H:%M:%SZ}")


def _blobs(config: Configuration) -> Iterator[Check]:
    loose = next(open_blob_store(config.stores.blobs).list_loose(), None)
    yield Check(
        "blobs", Verdict.OK, f"{config.stores.blobs}{'' if loose else ' (none stored loose yet)'}"
    )


def _projections(config: Configuration) -> Iterator[Check]:
    with open_log(config) as log, open_read_models(config, log) as models:
        statuses = models.statuses()
        homes = Pending(models.store).homes() if statuses else ()
        peers = [peer.id for peer in config.directory.peers]
        went_back = Servers(models.store).view().went_back(peers) if statuses else None
        known = read_acknowledged(log).get((config.server, log.head().incarnation))
    if not statuses:
        yield Check("projections", Verdict.OK, "none built yet: the first start builds them")
    for one in statuses:
        yield _projection(one)
    yield _waiting(homes, config.replication.alarm_pending_age_s, datetime.now(UTC))
    if went_back is not None:
        yield _went_back(went_back, known)


def _went_back(found: WentBack, known: WentBackAcknowledged | None) -> Check:
    """Tell of a restored backup: what came back, what did not, and what to do about it."""
    told = tell_went_back(found)
    if found.waiting_for:
        advice = "what is not back yet may be there; it is asked for again until they answer"
        return Check("log went back", Verdict.WARN, told, advice)
    if known is not None:
        return Check("log went back", Verdict.OK, f"{told}; {_acknowledged(known)}")
    if found.lost_events:
        advice = (
            "messages that were taken or kept only here between the backup and the restore are "
            "lost; look for them on the old disk, and tell the users; then 'vmledger log "
            "acknowledge' ends this warning"
        )
        return Check("log went back", Verdict.WARN, told, advice)
    return Check("log went back", Verdict.OK, told)


def _acknowledged(known: WentBackAcknowledged) -> str:
    return f"acknowledged by {known.by} at {known.recorded_at:%Y-%m-%d %H:%M:%SZ}: {known.reason}"


def _projection(one: ProjectionStatus) -> Check:
    name = f"projection {one.name}"
    if one.stopped_error is not None:
        return Check(
            name,
            Verdict.FAIL,
            f"stopped at position {one.stopped_position}: {one.stopped_error}",
            "run 'vmledger log verify'; a newer program may know this event",
        )
    if one.lag_events > _MANY_EVENTS:
        return Check(
            name, Verdict.WARN, f"{one.lag_events} events behind", "start the server, or wait"
        )
    return Check(name, Verdict.OK, f"position {one.position}, {one.lag_events} behind")


def _waiting(homes: Sequence[PendingHome], alarm_age_s: float, now: datetime) -> Check:
    """Judge the age of what waits for other homes."""
    count = sum(home.count for home in homes)
    oldest_s = max((home.oldest_age_s(now) for home in homes), default=0.0)
    held = sum(home.held_count for home in homes)
    found = f"{count} messages" + (f", the oldest for {show_age(oldest_s)}" if count else "")
    if held:
        return Check(
            "pending",
            Verdict.WARN,
            f"{found}; {held} refused by their homes",
            "see 'vmledger pending'; mend the cause, then 'vmledger message requeue ID'",
        )
    if oldest_s > alarm_age_s:
        return Check("pending", Verdict.WARN, found, "see which home is away: 'vmledger servers'")
    return Check("pending", Verdict.OK, found)


def _witnesses(config: Configuration) -> Iterator[Check]:
    """Say who vouches for this log, and whose log was seen to have two histories."""
    if not config.directory.peers:
        return
    identity = load_identity(config.server, config.identity.signing_key)
    with open_log(config) as log, open_checkpoints(config) as checkpoints:
        position = log.head().position
        cosigned = read_cosigned(config, identity, log, checkpoints).how_far()
        forks, known = read_forks(log), read_acknowledged(log)
    yield _witnessed(cosigned, position, datetime.now(UTC))
    for peer, event in sorted(forks.items()):
        yield _history(event, known.get((peer, event.incarnation)))


def _history(event: ForkWitnessed, known: WentBackAcknowledged | None) -> Check:
    """Judge what was seen of a peer's log: two histories of one log, or a log that went back."""
    peer, seen = event.peer, f"seen {event.recorded_at:%Y-%m-%d %H:%M:%SZ}"
    evidence = "the newest event fork-witnessed in the log here holds both signed checkpoints"
    if is_of_one_log(event):
        return Check(
            f"history of {peer}",
            Verdict.FAIL,
            f"FORKED: {peer} signed two histories of its log {event.incarnation}, {seen}",
            f"its log was changed, or two servers use its key; {evidence}",
        )
    found = f"its log went back and goes on as incarnation {event.incarnation}, {seen}"
    if known is not None:
        return Check(f"history of {peer}", Verdict.OK, f"{found}; {_acknowledged(known)}")
    return Check(
        f"history of {peer}",
        Verdict.WARN,
        found,
        f"was {peer} restored from a backup then? If so, 'vmledger log acknowledge {peer}'; if "
        f"not, its log was changed; {evidence}",
    )


def _witnessed(cosigned: Sequence[WitnessedUpTo], position: int, now: datetime) -> Check:
    """Judge how far other servers co-signed this log."""
    found = "; ".join(f"{one.server} up to {one.position} of {position}" for one in cosigned)
    newest = max((one.at for one in cosigned), default=None)
    is_behind = all(one.position < position for one in cosigned)
    if newest is not None and is_behind and now - newest > _LONG_UNWITNESSED:
        return Check(
            "witnesses",
            Verdict.WARN,
            f"{found}; the last {show_age((now - newest).total_seconds())} ago",
            "no other server can vouch for what came since: see 'vmledger servers'",
        )
    return Check("witnesses", Verdict.OK, found or "no other server has co-signed this log yet")


def _mirrors(config: Configuration) -> Iterator[Check]:
    """Ask each mirror what it holds of this log: it is what a lost disk comes back from."""
    for mirror in config.directory.own.mirrors:
        with open_log(config) as recorder:
            head = recorder.head()
        try:
            held = asyncio.run(_held_by(config, config.directory.entry(mirror)))
        except LedgerError as error:
            advice = "its copy does not grow: see that it runs"
            yield Check(f"mirror {mirror}", Verdict.WARN, str(error), advice)
            continue
        newest = max((copy.position for copy in held.copies), default=0)
        found = f"{newest} of {head.position} events"
        if newest < head.position - _MANY_EVENTS or (head.position and not newest):
            advice = (
                f"does its configuration name it in the mirrors of {config.server}? "
                f"See 'vmledger servers' at {mirror}"
            )
            yield Check(f"mirror {mirror}", Verdict.WARN, found, advice)
        else:
            yield Check(f"mirror {mirror}", Verdict.OK, found)


async def _held_by(config: Configuration, mirror: ServerEntry) -> LogState:
    offload = ThreadOffload(1)
    link = open_link(config, mirror, SystemClock(), offload)
    try:
        return await PeerClient(link).log_state(LogStateRequest(of=config.server))
    finally:
        await link.close()
        offload.close()


def _copies(config: Configuration) -> Iterator[Check]:
    """Say what is kept here of other servers' logs."""
    shelf = CopyShelf(config.mirrors)
    try:
        for peer in config.directory.peers:
            copies = shelf.copies(peer.id)
            for copy in copies:
                name = f"copy of {peer.id}"
                found = f"{copy.recorder.head().position} events in {copy.directory}"
                if copy.name == CURRENT_COPY:
                    yield Check(name, Verdict.OK, found)
                else:
                    advice = (
                        f"{peer.id} did not continue it: it lost something, or its log was "
                        "changed; keep it until that is understood, then remove the directory"
                    )
                    yield Check(f"{name} kept aside", Verdict.WARN, found, advice)
            if config.server in peer.mirrors and not copies:
                advice = "start this server, and see 'vmledger servers'"
                yield Check(f"copy of {peer.id}", Verdict.WARN, "none yet", advice)
    finally:
        shelf.close()


def _peers(config: Configuration) -> Iterator[Check]:
    for peer in config.directory.peers:
        address = urlsplit(peer.url)
        assert peer.certificate is not None, "the configuration requires it of peers"
        try:
            _shake_hands(config, peer.certificate, address.hostname or "", address.port or 443)
        except (OSError, LedgerError) as error:
            yield Check(
                f"peer {peer.id}",
                Verdict.WARN,
                f"{peer.url}: {error}",
                "messages for it wait here; check that it runs, the network, the firewall and "
                "that each side has the other's certificate",
            )
        else:
            yield Check(f"peer {peer.id}", Verdict.OK, f"{peer.url}: both certificates accepted")


def _shake_hands(config: Configuration, certificate: Path, host: str, port: int) -> None:
    """Connect as replication does: show our certificate, accept only the pinned one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate itself is pinned, so the name in it decides nothing.
    context.check_hostname = False
    context.load_verify_locations(certificate)
    context.load_cert_chain(config.identity.tls_certificate, config.identity.tls_key)
    with (
        socket.create_connection((host, port), _PEER_TIMEOUT_S) as plain,
        context.wrap_socket(plain) as secured,
    ):
        # Under TLS 1.3 a refusal of our certificate comes only with the first read.
        secured.sendall(b"GET /replication/ping HTTP/1.1\r\nHost: doctor\r\n\r\n")
        if not secured.recv(1):
            raise ConnectionResetError("it closed the connection: it does not accept us")
