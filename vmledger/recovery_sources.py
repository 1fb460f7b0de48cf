"""Open what a recovery is to read from, as an operator names it, and recover.

Source: claims 5, 8 and 10.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from ledger.clock import SystemClock
from ledger.configuration import Configuration
from ledger.configuration.master_key import open_master_key
from ledger.errors import CallerError, CorruptionError, LedgerError, PeerError, TransientError
from ledger.events import ServerId
from ledger.migration.link import PeerClient
from ledger.migration.log_reading import kept_word, read_blobs, read_kept_state, read_page
from ledger.migration.log_source import LogSource, LogTarget, PeerSource, Progress
from ledger.migration.wire import Blobs, LogPage, LogPageRequest, LogState, LogStateRequest
from ledger.offload import Offload, ThreadOffload
from ledger.storage.log_copy import LogCopy
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.open_recorder import open_recorder
from ledger.storage.sql_cosigned_checkpoints import SqlCosignedCheckpoints
from ledger.storage.vault import Vault
from vmledger.archive import unpack
from vmledger.archive_place import is_archive, is_bucket, open_place, shown
from vmledger.data_lock import DataLock
from vmledger.peer_links import open_link
from vmledger.recovery import Recovery
from vmledger.recovery_folder import RecoveryFolder
from vmledger.recovery_report import RecoveryReport


class CopySource:
    """A `LogSource` without a server: a mirror's directory, a backup, or an archive."""

    def __init__(
        self, name: str, copy: LogCopy, servers: Iterable[ServerId], offload: Offload
    ) -> None:
        self.name = name
        self._copy = copy
        self._servers = tuple(servers)
        self._offload = offload

    async def log_state(self, request: LogStateRequest) -> LogState:
        copy = self._copy
        state = await self._offload(
            lambda: read_kept_state(request.of, copy.recorder, copy.name, copy.checkpoint)
        )
        return LogState(copies=(state,))

    async def log_page(self, request: LogPageRequest) -> LogPage:
        copy = self._copy
        vouch = kept_word(copy.checkpoint)
        try:
            return await self._offload(
                lambda: read_page(
                    copy.recorder, request, vouch, origins=self._servers, cosigned=copy.cosigned
                )
            )
        except CorruptionError as error:
            # It is the source that is damaged, and not what is recovered into.
            raise PeerError(f"{self.name} is damaged: {error}", peer=self.name) from error

    async def blobs(self, of: ServerId, digests: Sequence[str]) -> Blobs:  # noqa: ARG002 - the port
        place = (self._copy.recorder, self._copy.blobs)
        return await self._offload(lambda: read_blobs(digests, [place]))


class BrokenSource:
    """A `LogSource` that cannot be read: it says why, and the recovery goes on with the others."""

    def __init__(self, name: str, problem: LedgerError) -> None:
        self.name = name
        self._problem = problem

    async def log_state(self, request: LogStateRequest) -> LogState:  # noqa: ARG002 - the port
        raise self._problem

    async def log_page(self, request: LogPageRequest) -> LogPage:  # noqa: ARG002 - the port
        raise self._problem

    async def blobs(self, of: ServerId, digests: Sequence[str]) -> Blobs:  # noqa: ARG002 - the port
        raise self._problem


@contextmanager
def open_copy(name: str) -> Iterator[LogCopy]:
    """Open a directory, or the archive in a bucket; an archive is unpacked first.

    Raises NotFoundError where there is no log, CorruptionError for a damaged archive,
    TransientError for a bucket that cannot be read now.
    """
    with ExitStack() as stack:
        if is_bucket(name) or is_archive(Path(name)):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vmledger-archive-"))
            copy = unpack(open_place(name), Path(folder))
        else:
            copy = LogCopy(Path(name))
        stack.callback(copy.close)
        yield copy


async def recover_from(
    config: Configuration,
    names: Sequence[str] | None,
    until: int | datetime | None,
    on_progress: Progress,
) -> RecoveryReport:
    """Recover from servers, directories and buckets; None: from all servers that are configured.

    Raises CallerError for a name that is none of them, ConflictError when a server uses the
    data directory, and what `Recovery.run` raises.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(DataLock(config.data))
        offload = ThreadOffload()
        stack.callback(offload.close)
        found = _open(config, names, offload, stack)
        folder = RecoveryFolder(config.data)
        master = open_master_key(config.identity)  # else nobody could read what comes
        target = stack.enter_context(open_target(config, folder))
        recovery = Recovery(
            config,
            target,
            folder,
            found,
            vault=Vault(target.recorder, master, os.urandom),
            offload=offload,
            clock=SystemClock(),
            new_id=uuid4,
            until=until,
            on_progress=on_progress,
        )
        return await recovery.run()


@contextmanager
def open_target(config: Configuration, folder: RecoveryFolder) -> Iterator[LogTarget]:
    """Open the stores of a configuration, to recover into them."""
    recorder = open_recorder(config.stores.events)
    cosigned = SqlCosignedCheckpoints(config.stores.events)
    try:
        yield LogTarget(
            of=config.server,
            public_key=config.directory.own.public_key,
            recorder=recorder,
            blobs=open_blob_store(config.stores.blobs),
            cosigned=cosigned,
            checkpoint=folder.checkpoint,
        )
    finally:
        cosigned.close()
        recorder.close()


def _open(
    config: Configuration,
    names: Sequence[str] | None,
    offload: ThreadOffload,
    stack: AsyncExitStack,
) -> list[LogSource]:
    """Open every source that was named; raises CallerError for one that is none.

    A copy that is damaged or away takes part as a source that can only say so.
    """
    peers = config.directory.peers
    found: list[LogSource] = []
    for name in [peer.id for peer in peers] if names is None else names:
        peer = next((p for p in peers if name.rstrip("/") in (p.id, p.url)), None)
        if peer is not None:
            link = open_link(config, peer, SystemClock(), offload)
            stack.push_async_callback(link.close)
            found.append(PeerSource(PeerClient(link), offload))
        elif is_bucket(name) or Path(name).is_dir():
            try:
                copy = stack.enter_context(open_copy(name))
            except (TransientError, CorruptionError) as error:
                found.append(BrokenSource(shown(name), error))
            else:
                found.append(CopySource(shown(name), copy, config.directory.servers, offload))
        else:
            known = ", ".join(f"{p.id} ({p.url})" for p in peers) or "none"
            raise CallerError(
                f"--from {name!r} is no directory or bucket (s3://…), and no server of the "
                f"configuration, which names {known}; the certificate of a server must be known "
                "before it is trusted"
            )
    return found
