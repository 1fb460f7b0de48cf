from tests.support.server_reports import (  # noqa: F401  (pytest finds them here)
    pytest_runtest_makereport,
    servers,
)
