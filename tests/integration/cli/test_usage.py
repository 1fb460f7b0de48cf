"""How the program speaks when it is used wrongly, or asked about itself."""

import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.testing import CliRunner

from tests.support.command_line import CommandLine
from vmledger import cli
from vmledger.main import TOPICS, app


def test_version_is_one_line(vmledger: CommandLine):
    name, number = vmledger("--version").out.split()
    assert name == "vmledger"
    assert number.split(".")[0].isdigit()


def loaded_by(imports: str, libraries: list[str]) -> list[str]:
    code = f"import sys\n{imports}\nprint(*sorted(set({libraries}) & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return told.stdout.split()


def test_program_starts_without_the_libraries_that_only_some_commands_need():
    heavy = ["aiohttp", "alembic", "litestar", "numpy", "psycopg", "pyarrow", "sqlalchemy"]
    topics = ", ".join(f"vmledger.cli.{topic}" for topic in TOPICS)
    assert loaded_by(f"import vmledger.main, {topics}", heavy) == []


def test_server_on_files_starts_without_the_driver_of_a_database_server():
    assert loaded_by("import vmledger.app, ledger.storage.sqlite", ["alembic", "psycopg"]) == []


def test_each_topic_adds_the_commands_that_the_program_reads_it_for():
    added = {}
    for found in pkgutil.iter_modules(cli.__path__):
        module = import_module(f"{cli.__name__}.{found.name}")
        if hasattr(module, "register"):
            topic = typer.Typer()
            module.register(topic)
            added[found.name] = set(typer.main.get_group(topic).commands)
    assert added == {topic: set(commands) for topic, commands in TOPICS.items()}


def test_mistyped_command_is_answered_with_what_may_be_meant(vmledger: CommandLine):
    assert "Did you mean 'serve', 'servers'?" in vmledger("serv", code=2).err


def test_program_without_a_command_shows_its_commands(vmledger: CommandLine):
    shown = vmledger(code=2)
    assert all(word in shown.err for word in ("serve", "mailbox", "pending", "doctor"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "frobnicate"),
        (["mailbox"], "EXT"),
        (["call", "--to", "2001", "--status", "sleepy"], "sleepy"),
        (["call", "--to", "2001", "--status", "busy", "--audio", "none.wav"], "none.wav"),
        (["message", "show", "not-an-id"], "ID"),
        (["mailbox", "1001", "--at", "yesterdayish", "--url", "x", "--token", "y"], "yesterdayish"),
        (["mailbox", "1001", "--at", "2026-01-01", "--position", "3"], "exclude"),
        (["mailbox", "1001", "--config", "none.toml"], "none.toml"),
        (["--config", "none.toml", "pending"], "none.toml"),
        (["log", "prove", "x"], "ID"),
        (["log", "check-proof", "absent.json"], "cannot be read"),
        (["recover", "nowhere"], "nowhere/vmledger.toml"),
        (["pending", "--url", "http://here:99999", "--token", "t"], "http://here:99999"),
        (["pending", "--url", "http://[::1", "--token", "t"], "http://[::1"),
        (["pending", "--url", "http://127.0.0.1:1", "--token", "two\nlines"], "access token"),
        (["pending", "--url", "http://127.0.0.1:1", "--token", "vml_\u20ac"], "access token"),
        (["log", "--from", str(2**63)], "--from"),
        (["token", "create", "x", "--scope", "reader", "--expires-in-days", "1e300"], "--expires"),
        (["token", "create", "x", "--scope", "reader", "--expires-in-days", "3e6"], "--expires"),
    ],
)
def test_wrong_usage_is_one_sentence_that_names_the_thing(
    vmledger: CommandLine, arguments: list[str], said: str
):
    refused = vmledger(*arguments, code=2)
    assert refused.out == ""
    assert said in refused.err
    assert refused.err.startswith("vmledger: ")
    assert refused.err.count("\n") == 1


def test_doubtful_configuration_is_refused_with_its_place(vmledger: CommandLine):
    path = vmledger.folder / "vmledger.toml"
    path.write_text('server = "alpha"\ncolour = "green"\n')
    refused = vmledger("config", "check", code=2)
    assert "colour" in refused.err


def test_server_that_is_away_is_said_with_what_to_do(vmledger: CommandLine):
    away = vmledger("pending", "--url", "http://127.0.0.1:1", "--token", "t", code=1)
    assert "127.0.0.1:1" in away.err
    assert "vmledger serve" in away.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(vmledger: CommandLine, shell: str):
    script = vmledger(
        _VMLEDGER_COMPLETE=f"source_{shell}", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert "_VMLEDGER_COMPLETE" in script.out


@pytest.mark.parametrize(
    "command",
    [
        "init", "serve", "demo", "call", "calls", "mailbox", "message show", "message story",
        "message export", "message heard", "message save", "message delete", "message restore",
        "message requeue", "pending", "servers", "log", "log verify", "log checkpoint",
        "log check-proof", "log prove", "log backup-verified", "log diff", "log acknowledge",
        "audit", "export", "retention run", "mailbox hold", "mailbox release",
        "projections status", "projections rebuild", "blobs verify", "blobs gc", "doctor",
        "token create", "token list", "token revoke", "config check", "config peers",
    ],
)  # fmt: skip
def test_command_exists_and_explains_itself(command: str):
    explained = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="vmledger")
    assert explained.exit_code == 0
    assert f"vmledger {command} " in explained.stdout
