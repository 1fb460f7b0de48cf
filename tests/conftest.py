"""What holds for all tests: a skipped test is said loudly, for an unseen one proves nothing."""

import signal
from collections.abc import Generator

import pytest

from tests.support import warm
from tests.support.postgres import Postgres, running_postgres
from tests.support.server_reports import pytest_runtest_makereport

__all__ = ("pytest_runtest_makereport",)

# A shell that runs this in its background has it ignore Ctrl-C, and with it all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
warm.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """End the run with a block of what did not run, and why."""
    yield
    skipped = terminalreporter.getreports("skipped")
    if not skipped:
        return
    terminalreporter.section(f"{len(skipped)} SKIPPED", sep="#", yellow=True, bold=True)
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"{report.nodeid}: {reason}", yellow=True)
    terminalreporter.write_line("Expected: none. What was skipped here is not proved here.")


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    """Give a running PostgreSQL server."""
    with running_postgres(survives_power_cuts=False) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Generator[str]:
    """Give the URL of a fresh database that has the schema."""
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)
