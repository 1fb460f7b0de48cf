"""Pages that are written from the code say what the code says now."""

import pytest

from tests.support.markdown import ROOT, name_of
from vmledger.reference.__main__ import pages, written_by


@pytest.mark.parametrize(("page", "module"), pages().items(), ids=map(name_of, pages()))
def test_generated_page_is_current(page, module):
    assert page.exists(), f"{name_of(page)} is missing; run 'make docs'"
    assert page.read_text() == written_by(module), "run 'make docs'"


def test_events_are_among_the_generated_pages():
    assert ROOT / "docs" / "reference" / "events.md" in pages()
