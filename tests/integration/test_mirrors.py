"""A mirror holds a whole copy of another server's log, and never lets go of one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from ledger.clock import SystemClock
from ledger.configuration import load_configuration
from ledger.configuration.master_key import open_master_key
from ledger.events import MessageStored, decode
from ledger.migration.wire import LogPage, LogPageRequest
from ledger.offload import ThreadOffload
from ledger.storage.log_copy import LogCopy
from ledger.storage.open_recorder import open_recorder
from ledger.storage.vault import Vault
from tests.support.api import wav
from tests.support.command_line import CommandLine
from tests.support.pair import CALLER, Client, eventually, set_keys
from tests.support.processes import Servers, free_ports
from vmledger.cluster import write_cluster
from vmledger.copy_source import CopySource
from vmledger.recovery import Recovery
from vmledger.recovery_folder import RecoveryFolder
from vmledger.recovery_sources import open_target

EXTENSIONS = {"alpha": ["1000-1999"], "bravo": ["2000-2999"], "carol": ["3000-3999"]}
EVENTS_A_MESSAGE = 4
KEYS = {"server.key", "tls.key", "tls.crt", "master.key"}


def write_mirrored(folder: Path) -> dict[str, Path]:
    """Alpha, whose mirror is bravo, and carol."""
    ports = iter(free_ports(6))
    places = {server: (next(ports), next(ports)) for server in EXTENSIONS}
    files = write_cluster(
        folder, list(EXTENSIONS), EXTENSIONS, places, mirrors={"alpha": ["bravo"]}
    )
    for file in files:
        set_keys(file, backoff_max_s=1, probe_interval_s=0.5)
    return dict(zip(EXTENSIONS, files, strict=True))


@pytest.fixture
def site(tmp_path) -> Iterator[tuple[dict[str, Path], Servers]]:
    files = write_mirrored(tmp_path)
    with Servers(list(files.values())) as servers:
        yield files, servers


def copies_of_alpha(files: dict[str, Path]) -> list[Path]:
    return sorted((files["bravo"].parent / "data" / "mirrors" / "alpha").glob("*"))


def copied_events(files: dict[str, Path]) -> int:
    """How much of alpha's log does its mirror hold?"""
    file = files["bravo"].parent / "data" / "mirrors" / "alpha" / "current" / "ledger.sqlite"
    if not file.exists():
        return 0
    with closing(open_recorder(f"sqlite:///{file}")) as copied:
        return copied.head().position


def is_copied(files: dict[str, Path]) -> bool:
    """Is the copy all that alpha's log is now?"""
    folder = files["bravo"].parent / "data" / "mirrors" / "alpha" / "current"
    if not (folder / "ledger.sqlite").exists():
        return False
    with (
        closing(open_recorder(load_configuration(files["alpha"]).stores.events)) as own,
        closing(LogCopy(folder)) as copy,
    ):
        return own.head() == copy.recorder.head() and copy.checkpoint.read(own.head()) is not None


def copies_with_key(files: dict[str, Path], message: dict) -> int:
    """In how many copies of alpha's log is the key of a message's call?"""
    call, found = UUID(message["call_id"]), 0
    for folder in copies_of_alpha(files):
        with closing(LogCopy(folder)) as copy:
            key = copy.recorder.read_keys([call]).get(call)
            found += key is not None and key.wrapped is not None
    return found


def lose(config: Path) -> None:
    """The disk is gone; what was kept elsewhere is the configuration and the keys."""
    data = config.parent / "data"
    for path in data.iterdir():
        if path.name not in KEYS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_mirror_holds_every_event_and_recording_at_its_own_position(site):
    files, servers = site
    servers.start_all()
    alpha, carol = Client(servers["alpha"]), Client(servers["carol"])
    here = alpha.leave("1001", wav(1200, level=3))
    alpha.leave("3001", wav(1300, level=4))
    carol.leave("1002", wav(1400, level=5))
    eventually(lambda: len(alpha.mailbox("1002")) == 1)
    eventually(lambda: is_copied(files))
    with (
        closing(open_recorder(load_configuration(files["alpha"]).stores.events)) as own,
        closing(LogCopy(copies_of_alpha(files)[0])) as copy,
    ):
        end = copy.recorder.head().position
        assert copy.recorder.read(1, end) == own.read(1, end)
        assert copy.recorder.tracked("carol") == own.tracked("carol")
    assert here["message_id"] in alpha.mailbox("1001")


def test_mirror_keeps_the_copy_of_a_log_that_went_back(site):
    files, servers = site
    servers["alpha"].start()
    servers["bravo"].start()
    alpha = Client(servers["alpha"])
    for level in (3, 4, 5):
        alpha.leave("1001", wav(1200, level=level))
    eventually(lambda: is_copied(files))
    with closing(LogCopy(copies_of_alpha(files)[0])) as copy:
        before = copy.recorder.head()
    servers["alpha"].kill9()
    lose(files["alpha"])
    # An empty log, as a careless hand would make.
    open_recorder(load_configuration(files["alpha"]).stores.events).close()
    servers["alpha"].start()
    eventually(lambda: len(copies_of_alpha(files)) == 2)
    eventually(lambda: is_copied(files))
    aside = next(path for path in copies_of_alpha(files) if path.name != "current")
    with closing(LogCopy(aside)) as copy:
        assert copy.recorder.head() == before
        assert copy.checkpoint.read(before) is not None


def test_what_is_erased_is_erased_in_the_copy_that_was_put_aside_too(site):
    files, servers = site
    for name in ("alpha", "bravo"):
        servers[name].start()
    alpha = Client(servers["alpha"])
    run = CommandLine(files["alpha"].parent, files["alpha"])
    gone, kept = (alpha.leave("1001", wav(1200, level=level)) for level in (3, 4))
    backup = files["alpha"].parent / "backup"
    run("backup", "create", backup)
    alpha.leave("1001", wav(1200, level=5))
    eventually(lambda: is_copied(files))
    servers["alpha"].kill9()
    lose(files["alpha"])
    run("backup", "restore", backup)
    servers["alpha"].start()
    eventually(lambda: len(copies_of_alpha(files)) == 2)
    assert copies_with_key(files, gone) >= 1
    run("erase", "message", gone["message_id"], "--reason", "asked")

    def is_taken_in() -> bool:
        certificate = run("erase", "certificate", gone["call_id"], "--json", code=None).json
        return all(one["mirror_has_taken_in"] in {True, None} for one in certificate["told"])

    eventually(is_taken_in)
    assert copies_with_key(files, gone) == 0
    assert copies_with_key(files, kept) == 2


def test_who_is_no_mirror_gets_nothing_of_the_log(site):
    files, servers = site
    text = files["alpha"].read_text()
    assert 'mirrors = ["bravo"]' in text
    files["alpha"].write_text(text.replace('mirrors = ["bravo"]', "mirrors = []"))
    servers["alpha"].start()
    servers["bravo"].start()
    Client(servers["alpha"]).leave("1001", wav(1200, level=3))
    eventually(lambda: "server bravo is no mirror of alpha" in servers["bravo"].output(500))
    folder = files["bravo"].parent / "data" / "mirrors" / "alpha" / "current"
    with closing(LogCopy(folder)) as copy:
        assert copy.recorder.head().position == 0


# --- Recovery: a server is lost and comes back ----------------------------------------------------


@contextmanager
def callers(client: Client) -> Iterator[dict[str, bytes]]:
    """Leave messages until the server dies or the block ends; gives those that were accepted."""
    accepted: dict[str, bytes] = {}
    stop = threading.Event()

    def call() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            spoken = wav(1000 + 20 * (number % 50), level=1 + number % 200)
            extension = ("1001", "2001", "3001")[number % 3]
            try:
                accepted[client.leave(extension, spoken)["message_id"]] = spoken
            except (httpx.HTTPError, AssertionError):
                stop.wait(0.05)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield accepted
    finally:
        stop.set()
        thread.join()


def everything(client: Client, extension: str) -> set[str]:
    answer = client.http.get(f"/v1/mailboxes/{extension}", params={"limit": 1000})
    return {message["message_id"] for message in answer.json()["messages"]}


def test_lost_server_comes_back_from_its_mirror_with_all_that_was_acknowledged(site):
    files, servers = site
    servers.start_all()
    alpha, carol = Client(servers["alpha"]), Client(servers["carol"])
    recover = CommandLine(files["alpha"].parent)
    with callers(alpha) as accepted, callers(carol) as elsewhere:
        eventually(lambda: len(accepted) >= 40 and len(elsewhere) >= 40)
        eventually(lambda: copied_events(files) >= 30 * EVENTS_A_MESSAGE)
        servers["alpha"].kill9()
        died = dict(accepted)
        eventually(lambda: len(elsewhere) >= 80)  # the others go on
    lose(files["alpha"])
    with closing(LogCopy(copies_of_alpha(files)[0])) as copy:
        acknowledged = copy.recorder.head()

    done = recover("recover", files["alpha"].parent, "--from", "bravo", "--json", code=None)
    report = done.json["report"]
    assert report["position"] == acknowledged.position
    assert report["root"] == acknowledged.root.hex()
    assert not report["missing"]
    assert done.json["is_whole"] == (report["known_until"] == acknowledged.position)
    verify = CommandLine(files["alpha"].parent, files["alpha"])
    verify("log", "verify", "--blobs")

    with closing(open_recorder(load_configuration(files["alpha"]).stores.events)) as own:
        assert own.root_at(acknowledged.position) == acknowledged.root
        stored = {
            event.message_id
            for entry in own.read(1, acknowledged.position)
            if isinstance(event := decode(entry.plain), MessageStored)
        }
    servers["alpha"].start()
    alpha = Client(servers["alpha"])
    clients = {"1001": alpha, "2001": Client(servers["bravo"]), "3001": carol}
    eventually(lambda: all(client.pending() == 0 for client in clients.values()))
    held = {extension: everything(client, extension) for extension, client in clients.items()}
    everywhere = [message for found in held.values() for message in found]
    assert len(everywhere) == len(set(everywhere)), "no message is there twice"
    assert elsewhere.keys() <= set(everywhere), "what another server accepted arrives"
    safe = {message for message in died if UUID(message) in stored}
    assert len(safe) >= 30
    assert safe <= set(everywhere), "what the mirror had acknowledged is there"
    for message in sorted(safe)[:10]:
        extension = next(e for e, found in held.items() if message in found)
        assert clients[extension].audio(extension, message) == died[message]
    for extension, client in clients.items():
        assert client.callers(extension) == {("known", CALLER)}, "every key came along"
    eventually(lambda: is_copied(files))
    assert len(copies_of_alpha(files)) == 1, "the same copy goes on"
    after = alpha.leave("3001", wav(1500, level=9))
    eventually(lambda: after["message_id"] in carol.mailbox("3001"))


def test_operator_sees_how_far_the_copies_are(site):
    files, servers = site
    servers["alpha"].start()
    servers["bravo"].start()
    alpha, bravo = Client(servers["alpha"]), Client(servers["bravo"])
    alpha.leave("1001", wav(1200, level=3))
    eventually(lambda: is_copied(files))
    # The acknowledgement is the mirror's next question, a second later.
    eventually(lambda: alpha.metric("vmledger_mirror_lag_events", mirror="bravo") == 0)
    acknowledged = alpha.metric("vmledger_mirror_acknowledged_position", mirror="bravo")
    assert acknowledged > 0
    eventually(lambda: bravo.metric("vmledger_copy_lag_events", origin="alpha") == 0)
    assert bravo.metric("vmledger_copy_failing", origin="alpha") == 0
    here = CommandLine(files["alpha"].parent, files["alpha"])
    there = CommandLine(files["bravo"].parent, files["bravo"])
    # The log grows a little by itself: carol is away.
    eventually(lambda: "lacks 0 of our events" in here("servers").out)
    eventually(lambda: "we lack 0 of its events" in there("servers").out)
    checks = {c["name"]: c for c in here("doctor", "--json").json["checks"]}
    assert checks["mirror bravo"]["verdict"] == "ok"
    checks = {c["name"]: c for c in there("doctor", "--json").json["checks"]}
    assert checks["copy of alpha"]["verdict"] == "ok"
    verified = there("log", "verify", "--copy-of", "alpha", "--blobs", "--json").json
    assert verified["log"]["position"] >= acknowledged
    assert verified["blobs"]["checked"] == 1
    servers["bravo"].kill9()
    pack = next((copies_of_alpha(files)[0] / "blobs" / "packs").glob("*.pack"))
    pack.write_bytes(b"x" + pack.read_bytes()[1:])
    there("log", "verify", "--copy-of", "carol", code=1)
    told = there("log", "verify", "--copy-of", "alpha", "--blobs", code=1).out
    copy = files["bravo"].parent / "data" / "mirrors" / "alpha" / "current"
    advice = f"stop this server, move {copy} out of {copy.parents[1]} and keep it"
    assert advice in told


def test_mirror_whose_copy_is_damaged_copies_anew_as_the_verification_advises(site):
    files, servers = site
    servers.start_all()
    Client(servers["alpha"]).leave("1001", wav(1200, level=3))
    eventually(lambda: is_copied(files))
    servers["bravo"].stop()
    (copy,) = copies_of_alpha(files)
    with closing(sqlite3.connect(copy / "ledger.sqlite", isolation_level=None)) as database:
        database.execute("DROP TRIGGER events_refuse_update")
        other = "SELECT state FROM events WHERE position = 4"
        database.execute(f"UPDATE events SET state = ({other}) WHERE position = 3")
    there = CommandLine(files["bravo"].parent, files["bravo"])
    told = there("log", "verify", "--copy-of", "alpha", code=1).out
    assert f"stop this server, move {copy} out of {copy.parents[1]} and keep it" in told
    assert "restore the log" not in told
    copy.rename(files["bravo"].parent / "damaged-copy")
    servers["bravo"].start()
    eventually(lambda: is_copied(files))
    there("log", "verify", "--copy-of", "alpha", "--blobs")


def test_recovery_says_exactly_what_is_missing_and_who_may_hold_it(site):
    files, servers = site
    servers.start_all()
    alpha, carol = Client(servers["alpha"]), Client(servers["carol"])
    kept = alpha.leave("1001", wav(1200, level=3))
    eventually(lambda: is_copied(files))
    servers["bravo"].kill9()
    with closing(LogCopy(copies_of_alpha(files)[0])) as copy:
        copied = copy.recorder.head().position
        # A disk of the mirror has lost the recordings, too.
        shutil.rmtree(copy.directory / "blobs" / "packs")
    lost = alpha.leave("1001", wav(1300, level=4))
    shipped = alpha.leave("3001", wav(1400, level=5))
    eventually(lambda: alpha.pending() == 0)

    def witnessed() -> int:
        known = alpha.http.get("/v1/servers").json()["servers"]
        return next(s for s in known if s["id"] == "carol")["witnessed_position"]

    eventually(lambda: witnessed() > copied + 5)
    servers["alpha"].kill9()
    lose(files["alpha"])
    servers["bravo"].start()
    folder = files["alpha"].parent
    done = CommandLine(folder)("recover", folder, "--json", code=1).json
    report = done["report"]
    assert report["position"] == copied
    assert report["known_until"] > copied + 5
    assert f"recovered through position {copied} of {report['known_until']}" in done["statement"]
    assert f"positions {copied + 1} to {report['known_until']} are missing" in done["statement"]
    assert report["told_by"] == ["carol"]
    (missing,) = report["missing"]
    assert missing["message_id"] == kept["message_id"]

    servers["alpha"].start()
    alpha = Client(servers["alpha"])
    eventually(lambda: not alpha.http.get("/v1/servers").json()["went_back"]["waiting_for"])
    eventually(lambda: alpha.pending() == 0)
    assert carol.mailbox("3001") == [shipped["message_id"]]
    told = CommandLine(folder, files["alpha"])("message", "show", shipped["message_id"]).out
    assert "message-migrated" in told or "carol" in told
    assert alpha.mailbox("1001") == [kept["message_id"]]
    assert lost["message_id"] not in alpha.mailbox("1001")


def test_server_without_any_mirror_comes_back_from_what_the_others_hold(site):
    files, servers = site
    text = files["alpha"].read_text()
    files["alpha"].write_text(text.replace('mirrors = ["bravo"]', "mirrors = []"))
    servers.start_all()
    alpha, carol = Client(servers["alpha"]), Client(servers["carol"])
    shipped = alpha.leave("3001", wav(1400, level=5))
    received = carol.leave("1001", wav(1500, level=6))
    eventually(lambda: alpha.mailbox("1001") == [received["message_id"]])
    eventually(lambda: alpha.pending() == 0)
    servers["alpha"].kill9()
    lose(files["alpha"])
    folder = files["alpha"].parent
    done = CommandLine(folder)("recover", folder, "--json", code=1).json
    assert done["report"]["position"] == 0
    assert "carol may hold some of them" in done["statement"].replace("bravo, ", "")
    servers["alpha"].start()
    alpha = Client(servers["alpha"])
    eventually(lambda: alpha.mailbox("1001") == [received["message_id"]])
    assert alpha.audio("1001", received["message_id"]) == wav(1500, level=6)
    eventually(lambda: not alpha.http.get("/v1/servers").json()["went_back"]["waiting_for"])
    assert carol.mailbox("3001") == [shipped["message_id"]]


def test_killed_recovery_goes_on_and_the_server_does_not_start_in_between(site):
    files, servers = site
    servers["alpha"].start()
    servers["bravo"].start()
    alpha = Client(servers["alpha"])
    for level in range(3, 9):
        alpha.leave("1001", wav(1200, level=level))
    eventually(lambda: is_copied(files))
    servers["alpha"].kill9()
    lose(files["alpha"])
    folder, copy = files["alpha"].parent, copies_of_alpha(files)[0]
    run, serve = CommandLine(folder), CommandLine(folder, files["alpha"])
    half = recover_half(files["alpha"], copy)
    refused = serve("serve", code=1)
    assert "is not finished; run 'vmledger recover' again" in refused.err
    done = run("recover", folder, "--from", copy, "--json").json
    assert done["report"]["position"] > half > 0
    assert done["statement"].endswith("nothing missing")
    run("recover", folder, "--from", copy, code=1)  # never over what is there
    serve("log", "verify", "--blobs")


def recover_half(config_file: Path, copy: Path) -> int:
    """Recover as far as a killed process would have come; gives the position reached."""
    config = load_configuration(config_file)
    offload = ThreadOffload(2)
    kept = LogCopy(copy)
    source = CopySource(str(copy), kept, config.directory.servers, offload)

    class KilledError(Exception):
        pass

    class Half:
        """The source, until the process that reads from it is killed."""

        name = source.name
        log_state = staticmethod(source.log_state)
        blobs = staticmethod(source.blobs)

        async def log_page(self, request: LogPageRequest) -> LogPage:
            if request.after_position:
                raise KilledError
            return await source.log_page(
                msgspec.structs.replace(request, through_position=request.through_position // 2)
            )

    try:
        folder = RecoveryFolder(config.data)
        with open_target(config, folder) as target:
            recovery = Recovery(
                config,
                target,
                folder,
                [Half()],
                vault=Vault(target.recorder, open_master_key(config.identity), os.urandom),
                offload=offload,
                clock=SystemClock(),
                new_id=uuid4,
            )
            with pytest.raises(KilledError):
                asyncio.run(recovery.run())
    finally:
        kept.close()
        offload.close()
    with closing(open_recorder(config.stores.events)) as recorder:
        return recorder.head().position


@pytest.mark.parametrize("kind", ["position", "time"])
def test_server_is_recovered_as_it_was_at_a_moment_of_the_past(site, kind):
    files, servers = site
    servers["alpha"].start()
    servers["bravo"].start()
    alpha = Client(servers["alpha"])
    first = alpha.leave("1001", wav(1200, level=3))
    eventually(lambda: is_copied(files))
    with closing(open_recorder(load_configuration(files["alpha"]).stores.events)) as own:
        position = own.head().position
    moment = datetime.now(UTC)
    alpha.leave("1001", wav(1200, level=4))
    eventually(lambda: is_copied(files))
    servers["alpha"].kill9()
    lose(files["alpha"])
    folder = files["alpha"].parent
    until = position if kind == "position" else moment.isoformat()
    done = CommandLine(folder)("recover", folder, "--from", "bravo", "--until", until, "--json")
    assert done.json["report"]["position"] >= position
    assert "as far as was asked for, nothing missing" in done.json["statement"]
    servers["bravo"].kill9()
    servers["alpha"].start()
    assert Client(servers["alpha"]).mailbox("1001") == [first["message_id"]]
