"""A failed test that used `Servers` shows what they printed.

The hook is in ``conftest.py`` of all tests; a folder's own one takes in the fixture with
``from tests.support.server_reports import servers``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.support.processes import Servers


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Servers to be added by the test; none of them outlives it."""
    with Servers() as group:
        yield group


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for group in getattr(item, "funcargs", {}).values():
            if isinstance(group, Servers):
                report.sections += group.outputs()
    return report
