"""For probes and monitoring: does the server live, can it work, and what are its numbers?"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from litestar import Response, get
from litestar.openapi import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ledger.errors import LedgerError
from ledger.events import PeerState
from vmledger.access import ANY_TOKEN, OPEN, READ
from vmledger.http.measures import Measures
from vmledger.http.parameters import Parts
from vmledger.http.parts import ApiParts
from vmledger.http.routes import declare
from vmledger.http.views import (
    Health,
    PendingView,
    ProjectionView,
    ServersView,
    WentBackView,
)

_OK: Final = "ok"
_CHECK_S: Final = 5.0
_OPEN_DECLARED: Final = declare(OPEN)
_READY_DECLARED: Final = declare(ANY_TOKEN)
_NOT_READY: Final = ResponseSpec(
    data_container=Health, description="It cannot do its work now.", generate_examples=False
)


@get("/healthz", tags=["health"], **_OPEN_DECLARED)
async def get_health(parts: Parts) -> Health:
    """Say that the server lives. Rests on nothing else."""
    return Health(status=_OK, server=parts.config.server)


@get(
    "/readyz",
    tags=["health"],
    **(_READY_DECLARED | {"responses": _READY_DECLARED["responses"] | {503: _NOT_READY}}),
)
async def get_readiness(parts: Parts) -> Response[Health]:
    """Say whether the server can take calls now: its log answers and its disk has room.

    A read model that is stopped is shown and does not count: calls are taken without it.
    """
    needed = {
        "log": await _log_state(parts),
        "disk": _disk_state(parts),
        "uploads": _OK if parts.uploads.has_place() else "as many as may be run already",
    }
    is_ready = all(found == _OK for found in needed.values())
    stopped = await _stopped_projections(parts)
    health = Health(
        status=_OK if is_ready else "not ready",
        server=parts.config.server,
        checks=needed | {f"projection {name}": "stopped" for name in stopped},
    )
    status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return Response(health, status_code=status)


async def _stopped_projections(parts: ApiParts) -> list[str]:
    try:
        found = await parts.offload(parts.questions.projections)
    except LedgerError:
        return []  # Calls are taken without them.
    return [projection.name for projection in found if projection.error]


async def _check(ask: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(_CHECK_S):
            await ask()
    except (LedgerError, TimeoutError) as error:
        return "does not answer" if isinstance(error, TimeoutError) else "fails"
    return _OK


async def _log_state(parts: ApiParts) -> str:
    """Can the log be read, and could it be written to when somebody tried last?"""
    trouble = parts.log.recorder.group.trouble()
    return f"nothing can be recorded: {trouble}" if trouble else await _check(parts.log.head)


def _disk_state(parts: ApiParts) -> str:
    if not os.access(parts.config.data, os.W_OK):
        return "not writable"
    return _OK if parts.room.is_open_for_recordings() else "almost full: no recording is begun"


@get("/metrics", tags=["health"], media_type=CONTENT_TYPE_LATEST, **declare(READ))
async def get_metrics(parts: Parts) -> Response[bytes]:
    """Give the numbers of this server, as Prometheus reads them.

    What cannot be found out now is left as it was: the others are needed most when a store is away.
    """
    measures, questions = parts.measures, parts.questions
    _show_limits(measures, parts)
    with contextlib.suppress(LedgerError):
        measures.log_position.set((await parts.log.head()).position)
    with contextlib.suppress(LedgerError):
        _show_pending(measures, await parts.offload(lambda: questions.pending(0)))
    with contextlib.suppress(LedgerError):
        _show_peers(measures, await parts.offload(questions.servers))
    with contextlib.suppress(LedgerError):
        _show_projections(measures, await parts.offload(questions.projections))
    return Response(generate_latest(measures.registry), media_type=CONTENT_TYPE_LATEST)


def _show_limits(measures: Measures, parts: ApiParts) -> None:
    limits = parts.config.limits
    measures.disk_free.set(parts.room.free_bytes())
    measures.disk_least.labels("recordings").set(limits.min_free_disk_bytes)
    measures.disk_least.labels("batches").set(limits.min_free_disk_for_batches_bytes)
    measures.disk_reserve.set(parts.reserve.held_bytes() if parts.reserve is not None else 0)
    measures.uploads.set(parts.uploads.running)
    measures.uploads_most.set(limits.concurrent_uploads)
    readers = parts.log.recorder.readers
    measures.log_readers.set(readers.busy)
    measures.log_readers_most.set(readers.most)
    for name, door in parts.doors.items():
        measures.connections.labels(name).set(len(door.guests))
        measures.connections_most.labels(name).set(door.limits.most)
    measures.alarm.clear()
    for alarm in parts.watch.alarms:
        measures.alarm.labels(alarm).set(1)


def _show_pending(measures: Measures, pending: PendingView) -> None:
    for gauge in (
        measures.pending_messages,
        measures.pending_bytes,
        measures.pending_oldest_age,
        measures.held_messages,
        measures.held_oldest_age,
    ):
        gauge.clear()
    for home in pending.homes:
        measures.pending_messages.labels(home.home).set(home.count)
        measures.pending_bytes.labels(home.home).set(home.size_bytes)
        measures.pending_oldest_age.labels(home.home).set(home.oldest_age_s)
        measures.held_messages.labels(home.home).set(home.held)
        measures.held_oldest_age.labels(home.home).set(home.held_oldest_age_s)


def _show_peers(measures: Measures, view: ServersView) -> None:
    measures.peer_up.clear()
    for server in view.servers:
        if not server.is_self:
            is_up = server.state is PeerState.UP
            measures.peer_up.labels(server.id, server.state.value).set(is_up)
    _show_copies(measures, view)
    _show_recall(measures, view.went_back)


def _show_copies(measures: Measures, view: ServersView) -> None:
    for server in view.servers:
        if (mirror := server.mirror) is not None:
            measures.mirror_acknowledged.labels(server.id).set(mirror.acknowledged_position)
            measures.mirror_lag.labels(server.id).set(mirror.lag_events)
        if (copy := server.copy) is not None:
            measures.copy_lag.labels(server.id).set(copy.lag_events)
            measures.copy_failing.labels(server.id).set(bool(copy.problem))
            measures.copy_missing.labels(server.id).set(copy.missing_recordings)


def _show_recall(measures: Measures, went_back: WentBackView | None) -> None:
    if went_back is None:
        return
    measures.log_went_back.set(went_back.noticed_at.timestamp())
    measures.lost_events.set(went_back.lost_events)
    measures.recall_waiting.clear()
    for peer in went_back.waiting_for:
        measures.recall_waiting.labels(peer).set(1)
    for one in went_back.recalls:
        measures.recalled_events.labels(one.peer).set(one.events)
        measures.recalled_messages.labels(one.peer).set(one.messages)


def _show_projections(measures: Measures, projections: list[ProjectionView]) -> None:
    measures.projection_lag.clear()
    measures.projection_failed.clear()
    for projection in (one for one in projections if one.is_serving):
        measures.projection_lag.labels(projection.name).set(projection.lag_events)
        measures.projection_failed.labels(projection.name).set(projection.error is not None)
