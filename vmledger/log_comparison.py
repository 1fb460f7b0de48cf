"""Compare this server's log with a peer's, beside the server: with its keys, over its own link.

Source: claims 7 and 8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ledger.clock import SystemClock
from ledger.configuration import Configuration
from ledger.errors import CallerError
from ledger.events import ServerId
from ledger.migration.link import PeerClient
from ledger.migration.log_diff import LogDiff, compare_logs
from ledger.offload import ThreadOffload
from ledger.storage.arrivals import read_arrivals
from ledger.storage.event_log import LogRecorder
from vmledger.peer_links import open_link


def compare_with(
    config: Configuration,
    server: ServerId,
    recorder: LogRecorder,
    on_progress: Callable[[int, int], None],
) -> LogDiff:
    """Compare with the log of a server of the configuration.

    Raises CallerError for one that it does not name, TransientError for one that does not answer.
    """
    peer = next((peer for peer in config.directory.peers if peer.id == server), None)
    if peer is None or peer.certificate is None:
        known = ", ".join(peer.id for peer in config.directory.peers) or "none"
        raise CallerError(f"{server!r} is no other server of the configuration: {known}")
    offload = ThreadOffload(1)
    link = open_link(config, peer, SystemClock(), offload)

    async def compare() -> LogDiff:
        try:
            return await compare_logs(
                PeerClient(link),
                recorder,
                config.server,
                lambda: read_arrivals(config.stores.events, server),
                on_progress,
            )
        finally:
            await link.close()

    try:
        return asyncio.run(compare())
    finally:
        offload.close()
