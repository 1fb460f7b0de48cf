import pytest

from tests.support.api import make_configuration, running_api


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """One running server for the tests of a file; each test uses an extension of its own."""
    config = make_configuration(tmp_path_factory.mktemp("api"))
    with running_api(config) as running:
        yield running
