"""A server that is stopped lets requests finish; one that takes too long is told to come back."""

import asyncio
import logging
import ssl

import httpx
import pytest

from ledger.configuration import Address
from vmledger.connections import Doorkeeper, DoorLimits
from vmledger.http.request_log import RequestLog
from vmledger.serving import (
    bind,
    make_server,
    serve_until_stopped,
    tell_lost_connections_shortly,
)


async def answer_slowly(scope, receive, send):
    """Answer at once with a head, if that is asked for, and never with a body."""
    if scope["path"] == "/begun":
        await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.Event().wait()


async def stop_while_asking(path: str) -> httpx.Response:
    listener = bind(Address("127.0.0.1", 0), "listen.api")
    doorkeeper = Doorkeeper(DoorLimits(most=10, head_timeout_s=5, body_timeout_s=5))
    server = make_server(RequestLog(answer_slowly), listener, grace_s=1, doorkeeper=doorkeeper)
    stop = asyncio.Event()
    serving = asyncio.create_task(serve_until_stopped([server], stop))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
    async with httpx.AsyncClient() as client:
        asking = asyncio.create_task(client.get(url))
        await asyncio.sleep(0.3)
        stop.set()
        try:
            return await asking
        finally:
            await serving


def test_request_that_takes_longer_than_the_grace_is_told_to_come_back(caplog):
    caplog.set_level(logging.INFO)
    answer = asyncio.run(stop_while_asking("/slow"))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "stopping"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert not [record for record in caplog.records if record.exc_info], "no trace of a bug"


def test_answer_that_had_begun_is_cut_off_and_the_client_sees_it():
    with pytest.raises(httpx.RemoteProtocolError):
        asyncio.run(stop_while_asking("/begun"))


@pytest.mark.parametrize(
    ("error", "has_trace"),
    [(ConnectionResetError(), False), (ssl.SSLError("handshake"), False), (ValueError(), True)],
)
def test_connection_that_broke_where_nobody_waits_is_a_line_and_other_errors_a_trace(
    caplog, error, has_trace
):
    caplog.set_level(logging.INFO)

    async def main():
        tell_lost_connections_shortly()
        context = {"message": "Future exception was never retrieved", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)

    asyncio.run(main())
    [record] = [record for record in caplog.records if record.name != "asyncio" or record.exc_info]
    assert bool(record.exc_info) == has_trace
