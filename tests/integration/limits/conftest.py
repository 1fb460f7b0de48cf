"""What the tests of limits share: real servers."""

from tests.support.server_reports import servers

__all__ = ["servers"]
