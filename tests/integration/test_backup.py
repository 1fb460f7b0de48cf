"""A real server under load is backed up, lost, and restored from its backup."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest

from ledger.configuration import load_configuration
from tests.support.api import wav
from tests.support.command_line import CommandLine
from tests.support.pair import Client, eventually, set_keys, write_pair
from tests.support.postgres import Postgres
from tests.support.processes import Servers
from vmledger.backup import create_backup
from vmledger.recovery_folder import expect_recovered

STORES = ("sqlite", "postgresql")


@pytest.fixture
def store_url(postgres: Postgres) -> Iterator[Callable[[str], str | None]]:
    """Gives the URL of an empty log of a kind; None where the configuration's default will do."""
    made: list[str] = []

    def make(kind: str) -> str | None:
        if kind == "sqlite":
            return None
        made.append(postgres.new_database())
        return made[-1]

    yield make
    for url in made:
        postgres.drop_database(url)


@contextmanager
def callers(client: Client) -> Iterator[dict[str, bytes]]:
    """Leave messages one after the other until the block ends; gives those that were accepted."""
    accepted: dict[str, bytes] = {}
    stop = threading.Event()

    def call() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            spoken = wav(1000 + 20 * (number % 50), level=1 + number % 200)
            # Each third one is for the other server, which is away: it waits here.
            extension = "2001" if number % 3 == 0 else "1001"
            accepted[client.leave(extension, spoken)["message_id"]] = spoken

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield accepted
    finally:
        stop.set()
        thread.join()


def messages(client: Client, extension: str) -> set[str]:
    answer = client.http.get(f"/v1/mailboxes/{extension}", params={"limit": 1000})
    return {message["message_id"] for message in answer.json()["messages"]}


def lose(config: Path) -> None:
    """The disk of a server is gone; its configuration and keys were kept elsewhere."""
    data = config.parent / "data"
    for path in data.iterdir():
        if path.name not in {"server.key", "tls.key", "tls.crt", "master.key"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def use_log(config: Path, url: str | None) -> None:
    text = config.read_text()
    if 'events = "postgresql' in text:
        start = text.index('events = "postgresql')
        line = text[start : text.index("\n", start)]
        text = text.replace(line, '# events = "sqlite:///ledger.sqlite"')
        config.write_text(text)
    if url is not None:
        set_keys(config, events=url)


@pytest.mark.parametrize(("before", "after"), [STORES, STORES[::-1]])
def test_server_comes_back_from_a_backup_made_under_load(tmp_path, store_url, before, after):
    files = write_pair(tmp_path)
    use_log(files["alpha"], store_url(before))
    backup = tmp_path / "backup"
    with Servers(files.values()) as servers:
        alpha, bravo = servers["alpha"], servers["bravo"]
        alpha.start()
        run = CommandLine(tmp_path, alpha.config)
        client = Client(alpha)
        with callers(client) as accepted:
            eventually(lambda: len(accepted) >= 15)
            first = run("backup", "create", backup, "--json").json
            early = dict(accepted)
            eventually(lambda: len(accepted) >= len(early) + 15)
            known = dict(accepted)
            second = run("backup", "create", backup, "--json", "--keys", tmp_path / "keys").json
        assert second["position"] > first["position"] > 0
        assert second["new_events"] == second["position"] - first["position"]
        assert second["new_recordings"] >= 15
        assert not second["missing"]
        for key in ("server.key", "master.key"):
            assert (tmp_path / "keys" / key).stat().st_mode & 0o777 == 0o600
        assert not list(backup.rglob("*.key")), "the keys are kept apart"

        alpha.kill9()
        lose(alpha.config)
        use_log(alpha.config, store_url(after))
        restored = run("backup", "restore", backup, "--json").json
        assert restored["position"] == second["position"]
        assert restored["root"] == second["root"]
        run("log", "verify", "--blobs")

        alpha.start()
        bravo.start()
        client, far = Client(alpha), Client(bravo)
        eventually(lambda: client.pending() == 0)
        held = {"1001": messages(client, "1001"), "2001": messages(far, "2001")}
        assert known.keys() <= held["1001"] | held["2001"]
        assert not held["1001"] & held["2001"]
        for message_id, spoken in known.items():
            at, extension = (client, "1001") if message_id in held["1001"] else (far, "2001")
            assert at.audio(extension, message_id) == spoken


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[CommandLine, Path]:
    """A server that does not run any more, and its backup. The other one co-signed what it has."""
    folder = tmp_path_factory.mktemp("saved")
    files = write_pair(folder)
    with Servers(list(files.values())) as servers:
        servers.start_all()
        client = Client(servers["alpha"])
        for level in (3, 5, 7):
            client.leave("1001", wav(1300, level=level))
        run = CommandLine(folder, files["alpha"])
        eventually(lambda: run("log", "verify", "--json").json["log"]["cosignatures"] > 0)
        run("backup", "create", folder / "backup", "--place", "tape 7")
        events = run("log", "--json").out.splitlines()
        assert any(json.loads(line)["topic"] == "backup-verified" for line in events)
    return run, folder / "backup"


@pytest.fixture
def copy(saved, tmp_path) -> tuple[CommandLine, Path]:
    run, backup = saved
    return run, Path(shutil.copytree(backup, tmp_path / "backup"))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_sound_backup_verifies(copy):
    run, backup = copy
    found = run("backup", "verify", backup, "--json").json
    assert found["blobs"]["checked"] == 3
    assert not found["problems"]
    assert [witness["server"] for witness in found["log"]["witnesses"]] == ["bravo"]


def test_changed_word_of_a_witness_is_found_and_named(copy):
    run, backup = copy
    with sqlite3.connect(backup / "ledger.sqlite") as log:
        log.execute("UPDATE cosigned_checkpoint SET note = replace(note, '/', '+')")
    found = run("backup", "verify", backup, "--json", code=1).json
    places = {finding["place"] for finding in found["log"]["findings"]}
    assert any("co-signed by 'bravo'" in place for place in places), places


def test_changed_recording_is_found_and_named(copy):
    run, backup = copy
    [pack] = (backup / "blobs" / "packs").iterdir()
    flip(pack, pack.stat().st_size // 2)
    found = run("backup", "verify", backup, "--json", code=1).json
    assert len(found["blobs"]["corrupt"]) == 1


def test_changed_event_is_found_and_not_restored(copy, tmp_path):
    run, backup = copy
    with sqlite3.connect(backup / "ledger.sqlite") as log:
        log.execute("DROP TRIGGER events_refuse_update")
        log.execute("UPDATE events SET topic = 'another' WHERE position = 3")
    found = run("backup", "verify", backup, "--json", code=1).json
    assert any("position 3" in finding["place"] for finding in found["log"]["findings"])
    empty = copy_of_server(run, tmp_path)
    refused = CommandLine(tmp_path, empty)("backup", "restore", backup, code=1)
    assert "position 3" in refused.err
    assert not CommandLine(tmp_path, empty)("log", "--json").out, "nothing was restored"


def test_backup_without_or_with_a_foreign_checkpoint_is_not_sound(copy):
    run, backup = copy
    text = (backup / "checkpoint").read_text()
    (backup / "checkpoint").unlink()
    assert "never finished" in run("backup", "verify", backup, code=1).out
    lines = text.split("\n")
    lines[1] = str(int(lines[1]) + 1)
    (backup / "checkpoint").write_text("\n".join(lines))
    assert "not signed by alpha" in run("backup", "verify", backup, code=1).out


def test_restore_overwrites_nothing(copy):
    run, backup = copy
    refused = run("backup", "restore", backup, code=1)
    assert "not overwritten" in refused.err


def test_another_log_is_not_mixed_in(copy, tmp_path):
    _, backup = copy
    files = write_pair(tmp_path)
    with Servers([files["alpha"]]) as servers:
        servers["alpha"].start()
        Client(servers["alpha"]).leave("1001", wav(1300, level=11))
    refused = CommandLine(tmp_path, files["alpha"])("backup", "create", backup, code=1)
    assert "another log" in refused.err


def test_recording_that_the_server_lost_is_named(copy, tmp_path):
    run, backup = copy
    server = copy_of_server(run, tmp_path)
    at = CommandLine(tmp_path, server)
    at("backup", "restore", backup)
    [pack] = (server.parent / "data" / "blobs" / "packs").iterdir()
    pack.unlink()
    made = at("backup", "create", tmp_path / "second", "--json", code=1).json
    assert len(made["missing"]) == 3
    assert made["verification"]["blobs"]["missing"]


def test_folder_that_is_no_backup(saved, tmp_path):
    run, _ = saved
    assert "is no backup" in run("backup", "verify", tmp_path, code=1).err
    assert "is no backup" in run("backup", "restore", tmp_path, code=1).err


def copy_of_server(run: CommandLine, folder: Path) -> Path:
    """Give the configuration of the same server on an empty machine."""
    assert run.config is not None
    there = Path(shutil.copytree(run.config.parent, folder / "alpha"))
    lose(there / run.config.name)
    return there / run.config.name


class KilledError(Exception):
    pass


def test_backup_that_is_killed_while_it_is_brought_up_to_date_can_be_restored(copy, tmp_path):
    run, backup = copy
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vmledger.backup._copy_needed", Mock(side_effect=KilledError))
        with pytest.raises(KilledError):
            create_backup(load_configuration(run.config), backup, datetime.now(UTC))
    before = run("backup", "verify", backup, "--json").json
    at = CommandLine(tmp_path, copy_of_server(run, tmp_path))
    restored = at("backup", "restore", backup, "--json").json
    assert (restored["position"], restored["recordings"]) == (before["position"], 3)


def test_server_starts_from_a_backup_after_a_recovery_that_found_nothing(copy, tmp_path):
    run, backup = copy
    config = copy_of_server(run, tmp_path)
    at = CommandLine(tmp_path, config)
    assert "does not answer" in at("recover", config.parent, "--from", "bravo", code=1).err
    at("backup", "restore", backup)
    expect_recovered(load_configuration(config).data)


def test_recording_whose_pack_the_backup_dropped_is_copied_again(copy):
    """The message had left its server, and has come back."""
    run, backup = copy
    for pack in (backup / "blobs" / "packs").iterdir():
        pack.unlink()
    assert run("backup", "create", backup, "--json").json["new_recordings"] == 3
