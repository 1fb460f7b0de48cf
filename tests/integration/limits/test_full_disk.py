"""A disk that is full to the last byte, under real server processes."""

import pytest

from tests.support.api import wav
from tests.support.mounted_disk import mounted_disk
from tests.support.pair import Client, eventually, set_keys, write_pair

MIB = 1 << 20
DISK_BYTES = 24 * MIB
LIMITS = {
    "min_free_disk_bytes": 2 * MIB,
    "min_free_disk_for_batches_bytes": 6 * MIB,
    "log_reserve_bytes": 4 * MIB,
}


@pytest.fixture
def configs(tmp_path):
    configs = write_pair(tmp_path)
    for config in configs.values():
        set_keys(config, **LIMITS)
    return configs


def start(servers, config):
    server = servers.add(config)
    server.start()
    return Client(server)


def spool(config):
    folder = config.parent / "data" / "spool"
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def full_origin(servers, configs):
    """Alpha with three messages for bravo, which is away, and a disk without a free byte."""
    with mounted_disk(configs["alpha"].parent / "data", DISK_BYTES) as disk:
        alpha = start(servers, configs["alpha"])
        sent = [alpha.leave("2001", wav(level=level))["message_id"] for level in (3, 5, 7)]
        eventually(lambda: alpha.metric("vmledger_disk_reserve_bytes") == 4 * MIB)
        disk.fill()
        assert disk.free_bytes == 0
        yield disk, alpha, sent
        servers["alpha"].kill9()


def test_a_full_disk_refuses_a_recording_clearly_and_keeps_nothing_of_it(full_origin, configs):
    _, alpha, _ = full_origin
    before = spool(configs["alpha"])
    answer = alpha.record(alpha.report("1001"))
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (503, "disk-full")
    assert int(answer.headers["retry-after"]) > 0
    assert "repeat the same request later" in problem["remedy"]
    assert spool(configs["alpha"]) == before


def test_a_full_origin_ships_what_it_has_and_records_the_receipts(full_origin, servers, configs):
    _, alpha, sent = full_origin
    bravo = start(servers, configs["bravo"])
    eventually(lambda: bravo.mailbox("2001") == sent[::-1])
    eventually(lambda: alpha.metric("vmledger_disk_reserve_bytes") < 4 * MIB)
    log = alpha.http.get("/v1/log", params={"limit": 1000}).json()["entries"]
    migrated = [entry for entry in log if entry["topic"] == "message-migrated"]
    assert len(migrated) == 3


def test_after_space_is_freed_all_goes_on_without_a_restart(full_origin, servers, configs):
    disk, alpha, sent = full_origin
    place = alpha.report("2001")
    assert alpha.record(place).status_code == 503
    bravo = start(servers, configs["bravo"])
    eventually(lambda: len(bravo.mailbox("2001")) == 3)
    disk.free()
    late = alpha.record(place).json()["message_id"]
    eventually(lambda: bravo.mailbox("2001") == [late, *sent[::-1]])
    eventually(lambda: alpha.pending() == 0)
    eventually(lambda: alpha.metric("vmledger_disk_reserve_bytes") == 4 * MIB)
    assert alpha.http.get("/readyz").status_code == 200
    assert "corruption" not in servers["alpha"].output(10_000)


def test_a_full_disk_is_told_early(full_origin, servers):
    _, alpha, _ = full_origin
    ready = alpha.http.get("/readyz")
    assert ready.status_code == 503
    assert "almost full" in ready.json()["checks"]["disk"]
    eventually(lambda: alpha.metric("vmledger_alarm", alarm="disk-recordings") == 1)
    assert "action=alarm alarm=disk-recordings" in servers["alpha"].output(10_000)


def test_a_home_with_a_full_disk_is_busy_and_gets_everything_later_once(servers, configs):
    with mounted_disk(configs["bravo"].parent / "data", DISK_BYTES) as disk:
        bravo, alpha = start(servers, configs["bravo"]), start(servers, configs["alpha"])
        disk.fill()
        audio = {level: wav(level=level) for level in (3, 5, 7)}
        sent = [alpha.leave("2001", audio[level])["message_id"] for level in audio]
        eventually(lambda: bravo.metric("vmledger_shed_total", place="batches", reason="disk") > 1)
        assert alpha.pending() == 3
        disk.free()
        eventually(lambda: bravo.mailbox("2001") == sent[::-1])
        eventually(lambda: alpha.pending() == 0)
        for message_id, sound in zip(sent, audio.values(), strict=True):
            assert bravo.audio("2001", message_id) == sound
        servers["bravo"].kill9()


def test_an_almost_full_home_takes_its_own_calls_but_no_batches(servers, configs):
    with mounted_disk(configs["bravo"].parent / "data", DISK_BYTES) as disk:
        bravo, alpha = start(servers, configs["bravo"]), start(servers, configs["alpha"])
        eventually(lambda: bravo.metric("vmledger_disk_reserve_bytes") == 4 * MIB)
        disk.fill(leave_bytes=4 * MIB)
        alpha.leave("2001")
        own = bravo.leave("2002")["message_id"]
        eventually(lambda: bravo.metric("vmledger_shed_total", place="batches", reason="disk") > 0)
        assert bravo.mailbox("2002") == [own]
        assert alpha.pending() == 1
        servers["bravo"].kill9()


def test_a_recording_that_cannot_fit_is_refused_while_a_small_one_is_taken(servers, configs):
    with mounted_disk(configs["alpha"].parent / "data", DISK_BYTES) as disk:
        alpha = start(servers, configs["alpha"])
        eventually(lambda: alpha.metric("vmledger_disk_reserve_bytes") == 4 * MIB)
        disk.fill(leave_bytes=3 * MIB)
        large = alpha.record(alpha.report("1001"), wav(duration_ms=300_000))
        assert (large.status_code, large.json()["code"]) == (503, "disk-full")
        alpha.leave("1001", wav(duration_ms=2_000))
        servers["alpha"].kill9()


def test_when_nothing_can_be_recorded_a_call_is_told_and_readiness_says_why(servers, configs):
    set_keys(
        configs["alpha"],
        min_free_disk_bytes=0,
        min_free_disk_for_batches_bytes=0,
        log_reserve_bytes=0,
    )
    with mounted_disk(configs["alpha"].parent / "data", DISK_BYTES) as disk:
        alpha = start(servers, configs["alpha"])
        disk.fill()
        report = {"called_extension": "1001", "status": "busy"}
        answer = alpha.http.post("/v1/calls", json=report)
        assert (answer.status_code, answer.json()["code"]) == (503, "disk-full")
        ready = alpha.http.get("/readyz")
        assert ready.status_code == 503
        assert "nothing can be recorded" in ready.json()["checks"]["log"]
        disk.free()
        alpha.leave("1001")
        assert alpha.http.get("/readyz").status_code == 200
        servers["alpha"].kill9()


def test_a_recording_that_meets_the_end_of_the_disk_is_told_and_can_be_sent_again(servers, configs):
    set_keys(configs["alpha"], min_free_disk_bytes=0, min_free_disk_for_batches_bytes=0)
    with mounted_disk(configs["alpha"].parent / "data", DISK_BYTES) as disk:
        alpha = start(servers, configs["alpha"])
        eventually(lambda: alpha.metric("vmledger_disk_reserve_bytes") == 4 * MIB)
        place = alpha.report("1001")
        disk.fill(leave_bytes=100_000)
        sound = b"".join(bytes([n % 251, n * 7 % 256, n * n % 256]) for n in range(200_000))
        parts = (sound[start : start + 50_000] for start in range(0, len(sound), 50_000))
        headers = {"Content-Type": "audio/basic"}
        answer = alpha.http.put(place, content=parts, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "disk-full")
        disk.free()
        assert alpha.http.put(place, content=sound[:80_000], headers=headers).status_code == 201
        servers["alpha"].kill9()
