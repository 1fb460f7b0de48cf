"""A server on disk whose configuration file tests may change."""

import pytest

from ledger.configuration import ConfigurationError, load_configuration
from ledger.identity import public_key_text
from tests.support.configuration import EVERY_KEY, two_servers


class Workbench:
    """Alpha's directory, and its configuration as text."""

    def __init__(self, file):
        self.file = file
        own = load_configuration(file).directory.servers
        self.text = EVERY_KEY
        for server in own.values():
            key = public_key_text(server.public_key)
            self.text = self.text.replace(f"{server.id.upper()}_KEY", key)

    def change(self, old, new):
        assert self.text.count(old) == 1, f"{old!r} must stand in the file once"
        self.text = self.text.replace(old, new)

    def line_of(self, part):
        return next(n for n, line in enumerate(self.text.split("\n"), 1) if part in line)

    def load(self, **options):
        self.file.write_text(self.text)
        return load_configuration(self.file, **options)

    def problems(self, **options):
        with pytest.raises(ConfigurationError) as raised:
            self.load(**options)
        return raised.value.problems

    def only_problem(self, **options):
        problems = self.problems(**options)
        assert len(problems) == 1, problems
        return problems[0]


@pytest.fixture
def bench(tmp_path):
    return Workbench(two_servers(tmp_path))
