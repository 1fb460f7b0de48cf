"""A real server whose master key lies on no disk in the open: a command decrypts it."""

import subprocess

from tests.support.api import wav
from tests.support.command_line import CommandLine
from tests.support.pair import Client, set_keys, write_pair
from tests.support.processes import Servers

SPOKEN = wav(1500, level=17)


def encrypt(folder):
    """Encrypt alpha's master key as an operator would, and remove the open one."""
    data = folder / "alpha" / "data"
    passphrase = folder / "passphrase"
    passphrase.write_text("correct horse battery staple\n")
    how = ["openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-pass", f"file:{passphrase}"]
    names = ["-in", str(data / "master.key"), "-out", str(data / "master.key.enc")]
    subprocess.run([*how, *names], check=True)
    (data / "master.key").unlink()
    return [*how, "-d", "-in", "{data}/master.key.enc"], passphrase


def test_server_runs_and_is_recovered_from_a_backup_with_a_key_that_a_command_gives(tmp_path):
    files = write_pair(tmp_path)
    command, passphrase = encrypt(tmp_path)
    run = CommandLine(tmp_path, files["alpha"])
    missing = run("config", "check", code=None)
    assert missing.code != 0
    assert "identity.master_key" in missing.err
    set_keys(files["alpha"], master_key_command=command)
    run("config", "check")
    with Servers([files["alpha"]]) as servers:
        servers.start_all()
        client = Client(servers["alpha"])
        message = client.leave("1001", SPOKEN)["message_id"]
        servers["alpha"].stop()
        servers["alpha"].start()
        servers["alpha"].wait_until_ready()
        assert client.audio("1001", message) == SPOKEN
        run("log", "verify")
        forgotten = tmp_path / "alpha" / "data" / "master.key"
        assert "lies open beside a command" not in run("doctor", code=None).out
        forgotten.touch(mode=0o600)
        assert "lies open beside a command" in run("doctor", code=None).out
        forgotten.unlink()
        run("backup", "create", tmp_path / "backup", "--keys", tmp_path / "keys")
        assert sorted(file.name for file in (tmp_path / "keys").iterdir()) == [
            "server.key",
            "tls.crt",
            "tls.key",
        ]
        servers["alpha"].stop()
        passphrase.rename(tmp_path / "lost")
        failed = run("serve", code=None)
        assert failed.code != 0
        assert "the master key's command 'openssl' ended with 1" in failed.err
