"""The reference page of the configuration shows all of it."""

import msgspec

from ledger.configuration import schema
from tests.support.markdown import ROOT
from vmledger.configuration_reference import configuration_reference, section_of
from vmledger.reference.__main__ import pages


def test_configuration_is_among_the_generated_pages():
    page = ROOT / "docs" / "reference" / "configuration.md"
    assert pages()[page] == "vmledger.configuration_reference"


def test_page_shows_every_key():
    page = configuration_reference()
    sections = [section_of(f.type)[0] for f in msgspec.structs.fields(schema.ConfigurationFile)]
    keys = [f.name for s in sections if s is not None for f in msgspec.structs.fields(s)]
    assert len(keys) > 40
    for key in keys:
        assert f"### `{key}`\n" in page
