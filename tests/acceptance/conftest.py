"""What the acceptance tests share: real servers, and their output when a test fails."""

from tests.support.server_reports import pytest_runtest_makereport, servers

__all__ = ["pytest_runtest_makereport", "servers"]
