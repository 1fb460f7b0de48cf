"""The master key comes from its file, or from a command, and every failure says what to do."""

import os
import sys
from pathlib import Path

import pytest

from ledger.configuration.configuration import IdentityFiles
from ledger.configuration.master_key import expect_master_key, open_master_key
from ledger.errors import CallerError
from ledger.sealing import new_master_key


def identity(path: Path, *command: str) -> IdentityFiles:
    return IdentityFiles(
        signing_key=path.parent / "server.key",
        tls_key=path.parent / "tls.key",
        tls_certificate=path.parent / "tls.crt",
        master_key=path,
        master_key_command=command,
    )


def running(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_command_gives_the_key_that_no_file_holds(tmp_path):
    path = tmp_path / "kept elsewhere"
    made = new_master_key(path, os.urandom)
    command = running(f"print(open({str(path)!r}).read(), end='')")
    absent = identity(tmp_path / "master.key", *command)
    assert open_master_key(absent) == made
    assert absent.master_key not in absent.all
    without_its_last_newline = running(f"print(open({str(path)!r}).read().strip(), end='')")
    assert open_master_key(identity(path, *without_its_last_newline)) == made


def test_command_is_not_asked_for_the_key_when_only_the_configuration_is_checked(tmp_path):
    told = tmp_path / "told"
    expect_master_key(identity(tmp_path, *running(f"open({str(told)!r}, 'w')")))
    assert not told.exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (running("print('vmledger-master-key-1 c2VjcmV0')"), "printed no master key"),
        (running("print('secret')"), "printed no master key"),
        (running("import sys; print('secret'); sys.exit('no such key')"), "said: no such key"),
        (running("raise SystemExit(3)"), "ended with 3, and said: nothing"),
        (("/nowhere/kms",), "cannot be run: No such file or directory"),
        ((*running("pass"), "a\0b"), "cannot be run: embedded null byte"),
    ],
)
def test_command_that_fails_is_named_and_what_it_printed_is_not(tmp_path, command, said):
    with pytest.raises(CallerError) as caught:
        open_master_key(identity(tmp_path, *command))
    assert said in str(caught.value)
    assert command[0] in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)


def test_command_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("ledger.configuration.master_key._PATIENCE_S", 0.2)
    with pytest.raises(CallerError, match="did not end within"):
        open_master_key(identity(tmp_path, *running("import time; time.sleep(60)")))


def test_program_that_is_not_there_is_found_before_the_start(tmp_path):
    with pytest.raises(CallerError, match="there is no such program"):
        expect_master_key(identity(tmp_path, "/nowhere/kms"))


def test_file_counts_where_no_command_is_named(tmp_path):
    made = new_master_key(tmp_path / "master.key", os.urandom)
    assert open_master_key(identity(tmp_path / "master.key")) == made
    with pytest.raises(CallerError):
        expect_master_key(identity(tmp_path / "absent"))
