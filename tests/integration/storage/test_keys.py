"""Keys in real databases: gone from the disk when destroyed, and in no copy of the log."""

import contextlib
import os
from pathlib import Path
from uuid import UUID

import pytest

from ledger.errors import CallerError, CorruptionError, NotFoundError
from ledger.sealing import MasterKey, WrappedKey, new_master_key
from ledger.storage.copy_log import copy_log
from ledger.storage.event_log import Append
from ledger.storage.key_check import check_keys
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.open_recorder import open_recorder
from ledger.storage.vault import ErasedError, Vault
from tests.support.postgres import Postgres
from tests.support.stored_events import stored_event

CALLS = [UUID(int=number) for number in range(1, 401)]


def _bytes_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_destroyed_keys_are_in_no_file_of_the_database(tmp_path: Path) -> None:
    wrapped = {call: os.urandom(69) for call in CALLS}
    erased, kept = CALLS[::2], CALLS[1::2]
    with contextlib.closing(open_recorder(f"sqlite:///{tmp_path / 'log.sqlite'}")) as log:
        keys = [WrappedKey(call, value) for call, value in wrapped.items()]
        log.commit([Append([stored_event(1, 1)], keys=keys)])
        assert all(wrapped[call] in _bytes_on_disk(tmp_path) for call in CALLS)

        log.commit([Append([stored_event(1, 2)], keys=[WrappedKey(call, None) for call in erased])])

        on_disk = _bytes_on_disk(tmp_path)
        assert [call for call in erased if wrapped[call] in on_disk] == []
        assert all(wrapped[call] in on_disk for call in kept)


def test_somebody_who_reads_does_not_keep_keys_from_being_destroyed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.sqlite'}"
    with contextlib.closing(open_recorder(url)) as log:
        log.commit([Append([stored_event(1, 1)], keys=[WrappedKey(CALLS[0], b"secret" * 9)])])
        with log._readers.borrow() as reader:  # type: ignore[attr-defined]
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchall()
            log.commit([Append([stored_event(1, 2)], keys=[WrappedKey(CALLS[0], None)])])
            assert log.read_keys(CALLS[:1]) == {CALLS[0]: WrappedKey(CALLS[0], None)}
            reader.execute("COMMIT")
        log.commit([Append([stored_event(1, 3)], keys=[WrappedKey(CALLS[1], None)])])
        assert b"secret" * 9 not in _bytes_on_disk(tmp_path)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_copy_of_a_log_holds_its_keys_as_they_stand_and_drops_those_that_were_destroyed_since(
    kind: str, tmp_path: Path, postgres: Postgres
) -> None:
    source = f"sqlite:///{tmp_path / 'log.sqlite'}"
    if kind == "postgres":
        source = postgres.new_database()
    (tmp_path / "copy").mkdir()
    target = f"sqlite:///{tmp_path / 'copy' / 'copy.sqlite'}"
    keys = [WrappedKey(CALLS[0], b"secret" * 9), WrappedKey(CALLS[1], b"other")]
    with contextlib.closing(open_recorder(source)) as log:
        log.commit([Append([stored_event(1, 1)], keys=keys)])
        copy_log(source, target)
        with contextlib.closing(open_recorder(target)) as copy:
            assert copy.read_keys(CALLS) == {key.key_id: key for key in keys}

        log.commit([Append([stored_event(1, 2)], keys=[WrappedKey(CALLS[0], None)])])
        copy_log(source, target)

    with contextlib.closing(open_recorder(target)) as copy:
        assert copy.read_keys(CALLS) == {CALLS[0]: WrappedKey(CALLS[0], None), CALLS[1]: keys[1]}
    assert b"secret" * 9 not in _bytes_on_disk(tmp_path / "copy")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_check_opens_every_key_and_names_the_call_of_one_that_it_cannot(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'log.sqlite'}"
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").new_database()
    master = MasterKey(os.urandom(32))
    _, good = Vault(MemoryLogRecorder(), master, os.urandom).new_key(CALLS[0])
    assert good.wrapped is not None
    moved, destroyed = WrappedKey(CALLS[1], good.wrapped), WrappedKey(CALLS[2], None)
    with contextlib.closing(open_recorder(url)) as log:
        log.commit([Append([], keys=[good, moved, destroyed])])

    assert [place for place, _ in check_keys(url, master)] == [f"key of call {CALLS[1]}"]
    assert len(check_keys(url, MasterKey(os.urandom(32)))) == 2, "another master key opens none"


# --- The vault ----------------------------------------------------------------------------------


@pytest.fixture
def master(tmp_path: Path) -> MasterKey:
    return new_master_key(tmp_path / "master.key", os.urandom)


def test_vault_gives_a_key_once_it_is_committed(master: MasterKey) -> None:
    log = MemoryLogRecorder()
    vault = Vault(log, master, os.urandom)
    key, wrapped = vault.new_key(CALLS[0])
    with pytest.raises(NotFoundError, match="not on this server"):
        vault.key(CALLS[0])

    log.commit([Append([stored_event(1, 1)], keys=[wrapped])])

    assert vault.key(CALLS[0]) == key
    assert key.open(key.seal(b"+15550100", "caller", os.urandom), "caller") == b"+15550100"


def test_vault_says_which_keys_are_destroyed(master: MasterKey) -> None:
    log = MemoryLogRecorder()
    vault = Vault(log, master, os.urandom)
    made = [vault.new_key(call) for call in CALLS[:2]]
    log.commit([Append([], keys=[wrapped for _, wrapped in made])])

    log.commit([Append([], keys=vault.destroy(CALLS[:1]))])

    assert vault.keys(CALLS[:3]) == {CALLS[0]: None, CALLS[1]: made[1][0]}
    with pytest.raises(ErasedError, match="erased"):
        vault.key(CALLS[0])


def test_key_that_came_from_another_server_is_wrapped_anew(master: MasterKey) -> None:
    home, log = MasterKey(os.urandom(32)), MemoryLogRecorder()
    key, as_sent = Vault(MemoryLogRecorder(), master, os.urandom).new_key(CALLS[0])
    vault = Vault(log, home, os.urandom)

    log.commit([Append([], keys=[vault.wrap(key)])])

    assert vault.key(CALLS[0]) == key
    assert log.read_keys(CALLS[:1])[CALLS[0]] != as_sent


def test_vault_with_another_master_key_opens_nothing(master: MasterKey) -> None:
    log = MemoryLogRecorder()
    _, wrapped = Vault(log, master, os.urandom).new_key(CALLS[0])
    log.commit([Append([], keys=[wrapped])])

    with pytest.raises(CallerError, match=master.name):
        Vault(log, MasterKey(os.urandom(32)), os.urandom).key(CALLS[0])


def test_damaged_key_is_found(master: MasterKey) -> None:
    log = MemoryLogRecorder()
    vault = Vault(log, master, os.urandom)
    _, wrapped = vault.new_key(CALLS[0])
    assert wrapped.wrapped is not None
    damaged = wrapped.wrapped[:-1] + bytes([wrapped.wrapped[-1] ^ 1])
    log.commit([Append([], keys=[WrappedKey(CALLS[0], damaged)])])

    with pytest.raises(CorruptionError):
        vault.key(CALLS[0])
