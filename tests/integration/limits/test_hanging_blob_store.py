"""A blob store that does not answer, as an object store behind a line that is gone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.support.api import make_configuration, running_api, wav
from tests.support.processes import wait_for

HANGING = 12


def test_calls_are_taken_while_recordings_wait_for_the_blob_store(tmp_path):
    with running_api(make_configuration(tmp_path)) as api, ThreadPoolExecutor(HANGING) as pool:
        blobs = api.program.stores.blobs
        put_file, is_back = blobs.put_file, threading.Event()

        def put_when_it_is_back(digest, path):
            is_back.wait(60)
            put_file(digest, path)

        def record(place: str) -> httpx.Response:
            return api.switch.put(place, content=wav(), headers={"Content-Type": "audio/wav"})

        blobs.put_file = put_when_it_is_back
        places = [api.report().headers["Location"] for _ in range(HANGING)]
        recordings = [pool.submit(record, place) for place in places]
        spool = api.program.config.spool
        try:
            assert wait_for(lambda: len(list(spool.glob("*.zst"))) == HANGING, 10)
            report = {"called_extension": "1001", "status": "no-answer"}
            answer = api.switch.post("/v1/calls", json=report, timeout=5)
            assert answer.status_code == 201
            assert api.operator.get("/readyz", timeout=5).status_code == 200
        finally:
            is_back.set()
        assert {recording.result().status_code for recording in recordings} == {201}
