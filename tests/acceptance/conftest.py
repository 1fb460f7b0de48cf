"""What the acceptance tests share: real servers, and their output when a test fails."""

from tests.support.server_reports import servers

__all__ = ["servers"]
