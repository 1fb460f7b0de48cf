"""For probes and monitoring: does the server live, can it work, and what are its numbers?"""

from __future__ import annotations

import asyncio
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
from vmledger.http.views import Health, PendingView, ProjectionView, ServersView

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
    log = await _check(parts.log.head)
    disk = _disk_state(parts)
    stopped = [p.name for p in await parts.offload(parts.questions.projections) if p.error]
    checks = {"log": log, "disk": disk} | {f"projection {name}": "stopped" for name in stopped}
    is_ready = log == disk == _OK
    health = Health(
        status=_OK if is_ready else "not ready", server=parts.config.server, checks=checks
    )
    status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return Response(health, status_code=status)


async def _check(ask: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(_CHECK_S):
            await ask()
    except (LedgerError, TimeoutError) as error:
        return "does not answer" if isinstance(error, TimeoutError) else "fails"
    return _OK


def _disk_state(parts: ApiParts) -> str:
    if not os.access(parts.config.data, os.W_OK):
        return "not writable"
    return _OK if parts.uploads.has_room() else "almost full"


@get("/metrics", tags=["health"], media_type=CONTENT_TYPE_LATEST, **declare(READ))
async def get_metrics(parts: Parts) -> Response[bytes]:
    """Give the numbers of this server, as Prometheus reads them."""
    measures, questions = parts.measures, parts.questions
    measures.log_position.set((await parts.log.head()).position)
    measures.disk_free.set(parts.uploads.free_bytes())
    _show_pending(measures, await parts.offload(lambda: questions.pending(0)))
    _show_peers(measures, await parts.offload(questions.servers))
    _show_projections(measures, await parts.offload(questions.projections))
    return Response(generate_latest(measures.registry), media_type=CONTENT_TYPE_LATEST)


def _show_pending(measures: Measures, pending: PendingView) -> None:
    for gauge in (
        measures.pending_messages,
        measures.pending_bytes,
        measures.pending_oldest_age,
        measures.held_messages,
    ):
        gauge.clear()
    for home in pending.homes:
        measures.pending_messages.labels(home.home).set(home.count)
        measures.pending_bytes.labels(home.home).set(home.size_bytes)
        measures.pending_oldest_age.labels(home.home).set(home.oldest_age_s)
        measures.held_messages.labels(home.home).set(home.held)


def _show_peers(measures: Measures, view: ServersView) -> None:
    measures.peer_up.clear()
    for server in view.servers:
        if not server.is_self:
            is_up = server.state is PeerState.UP
            measures.peer_up.labels(server.id, server.state.value).set(is_up)


def _show_projections(measures: Measures, projections: list[ProjectionView]) -> None:
    measures.projection_lag.clear()
    measures.projection_failed.clear()
    for projection in (one for one in projections if one.is_serving):
        measures.projection_lag.labels(projection.name).set(projection.lag_events)
        measures.projection_failed.labels(projection.name).set(projection.error is not None)
