"""The reference page of the configuration is made from its declaration."""

import subprocess
import sys
from pathlib import Path

import msgspec

from ledger.configuration import schema
from vmledger.configuration_reference import configuration_reference, section_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/configuration.md"


def test_page_is_current():
    made = "python -m vmledger.configuration_reference > docs/reference/configuration.md"
    assert PAGE.read_text("utf-8") == configuration_reference(), f"run: {made}"


def test_command_prints_the_page():
    command = [sys.executable, "-m", "vmledger.configuration_reference"]
    printed = subprocess.run(command, capture_output=True, check=True, cwd=ROOT, encoding="utf-8")
    assert printed.stdout == configuration_reference()


def test_page_shows_every_key():
    page = configuration_reference()
    sections = [section_of(f.type)[0] for f in msgspec.structs.fields(schema.ConfigurationFile)]
    keys = [f.name for s in sections if s is not None for f in msgspec.structs.fields(s)]
    assert len(keys) > 40
    for key in keys:
        assert f"### `{key}`\n" in page
