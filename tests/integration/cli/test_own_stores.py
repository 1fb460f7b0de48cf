"""Commands that open the stores of a server themselves."""

import os
import re
import signal
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import PROGRAM, CommandLine, environment
from tests.integration.cli.conftest import Running


def test_new_server_has_a_configuration_keys_and_stores(fresh: CommandLine):
    folder = fresh.folder / "alpha"
    assert (folder / "data" / "ledger.sqlite").is_file()
    for secret in ("server.key", "tls.key", "operator.token"):
        assert stat.S_IMODE((folder / "data" / secret).stat().st_mode) == 0o600
    assert "fine" in fresh("config", "check").out


def test_init_never_overwrites(fresh: CommandLine):
    before = (fresh.folder / "alpha" / "vmledger.toml").read_bytes()
    refused = fresh("init", "alpha", "--server", "alpha", code=1)
    assert "vmledger.toml" in refused.err or "server.key" in refused.err
    assert (fresh.folder / "alpha" / "vmledger.toml").read_bytes() == before


def test_configuration_is_shown_as_json(fresh: CommandLine):
    facts = fresh("config", "check", "--json").json
    assert facts["server"] == "alpha"
    assert facts["peers"] == []


def test_block_for_the_other_servers_names_this_one(fresh: CommandLine):
    block = fresh("config", "peers").out
    assert "[[servers]]" in block
    assert re.search(r'^id = "alpha"$', block, re.MULTILINE)
    assert "1000-1999" in block


def test_token_is_made_listed_without_its_secret_and_revoked(fresh: CommandLine):
    token = fresh("token", "create", "the-switch", "--scope", "switch").out.strip()
    _, token_id, secret = token.split("_")
    listed = fresh("token", "list", "--json")
    assert secret not in listed.out
    mine = next(t for t in listed.json["tokens"] if t["id"] == token_id)
    assert (mine["name"], mine["scopes"], mine["revoked_at"]) == ("the-switch", ["switch"], None)
    fresh("token", "revoke", token_id)
    listed = fresh("token", "list", "--json")
    assert next(t for t in listed.json["tokens"] if t["id"] == token_id)["revoked_at"]
    assert "the-switch" in fresh("token", "list").out


def test_unknown_token_cannot_be_revoked(fresh: CommandLine):
    assert "nonsense" in fresh("token", "revoke", "nonsense", code=1).err


def test_empty_log_verifies(fresh: CommandLine):
    verified = fresh("log", "verify", "--json").json["log"]
    assert verified["findings"] == []
    assert fresh("log", "checkpoint", "--json").json["position"] == verified["position"]
