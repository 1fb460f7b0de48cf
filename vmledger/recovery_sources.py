"""Open what a recovery is to read from, as an operator names it, and recover.

Source: claims 5, 8 and 10.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from ledger.clock import SystemClock
from ledger.configuration import Configuration
from ledger.configuration.master_key import open_master_key
from ledger.errors import CallerError, CorruptionError, TransientError
from ledger.migration.link import PeerClient
from ledger.migration.log_source import LogSource, PeerSource, Progress
from ledger.offload import ThreadOffload
from ledger.storage.vault import Vault
from vmledger.archive_place import is_bucket, shown
from vmledger.copy_source import BrokenSource, CopySource, open_copy
from vmledger.data_lock import DataLock
from vmledger.peer_links import open_link
from vmledger.recovery import Recovery
from vmledger.recovery_folder import RecoveryFolder
from vmledger.recovery_processes import CopyPlace, Place, RecoveryProcesses, ServerPlace
from vmledger.recovery_report import RecoveryReport
from vmledger.recovery_target import open_target


async def recover_from(
    config: Configuration,
    names: Sequence[str] | None,
    until: int | datetime | None,
    on_progress: Progress,
    processes: RecoveryProcesses | None = None,
) -> RecoveryReport:
    """Recover from servers, directories and buckets; None: from all servers that are configured.

    ``processes`` bring the blobs and commit; None: this process does it itself.
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
            list(found),
            vault=Vault(target.recorder, master, os.urandom),
            offload=offload,
            clock=SystemClock(),
            new_id=uuid4,
            until=until,
            on_progress=on_progress,
            carrier_from=lambda source: processes.carrier(found[source]) if processes else None,
            writer=processes.writer() if processes else None,
        )
        return await recovery.run()


def _open(
    config: Configuration,
    names: Sequence[str] | None,
    offload: ThreadOffload,
    stack: AsyncExitStack,
) -> dict[LogSource, Place]:
    """Open every source that was named, and say where it is.

    Raises CallerError for a name that is none.

    A copy that is damaged or away takes part as a source that can only say so.
    """
    peers = config.directory.peers
    found: dict[LogSource, Place] = {}
    for name in [peer.id for peer in peers] if names is None else names:
        peer = next((p for p in peers if name.rstrip("/") in (p.id, p.url)), None)
        if peer is not None:
            link = open_link(config, peer, SystemClock(), offload)
            stack.push_async_callback(link.close)
            found[PeerSource(PeerClient(link), offload)] = ServerPlace(peer.id)
        elif is_bucket(name) or Path(name).is_dir():
            try:
                copy = stack.enter_context(open_copy(name))
            except (TransientError, CorruptionError) as error:
                found[BrokenSource(shown(name), error)] = CopyPlace(name, Path(name))
            else:
                source = CopySource(shown(name), copy, config.directory.servers, offload)
                found[source] = CopyPlace(name, copy.directory)
        else:
            known = ", ".join(f"{p.id} ({p.url})" for p in peers) or "none"
            raise CallerError(
                f"--from {name!r} is no directory or bucket (s3://…), and no server of the "
                f"configuration, which names {known}; the certificate of a server must be known "
                "before it is trusted"
            )
    return found
