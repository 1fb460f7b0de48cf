"""Every failure of the table in ``docs/reliability.md`` has its scenario or its test, by name."""

import re

from tests.simulation.faults import Step
from tests.support.markdown import ROOT, inline_code

PAGE = ROOT / "docs" / "reliability.md"
CELLS = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line[:3] == "| F"]
ROWS = {failure.strip(): (here.strip(), besides.strip()) for failure, _, here, besides in CELLS}
CODE = re.compile(r"`([^`]+)`")
TEST = re.compile(r"(?P<file>(?:tests/[\w/]+/)?test_\w+\.py)(?:::(?P<function>test_\w+))?")
STEPS = {kind.__name__ for kind in Step.__subclasses__()}


def test_table_has_every_failure_once():
    assert list(ROWS) == [f"F{number}" for number in range(1, 21)]
    assert len(CELLS) == len(ROWS)


def test_each_failure_names_what_the_simulation_does_or_a_test():
    for failure, (here, besides) in ROWS.items():
        steps = {code.partition(".")[0] for code in CODE.findall(here)} & STEPS
        tests = [code for code in CODE.findall(besides) if TEST.fullmatch(code)]
        # Two of them are in every run, and are no steps of their own.
        is_of_every_run = here.startswith(("power cuts", "pauses"))
        assert steps or tests or is_of_every_run, failure


def test_every_test_that_the_page_names_exists():
    named = [match for code in inline_code(PAGE) if (match := TEST.fullmatch(code))]
    assert len(named) > 12
    for match in named:
        files = list(ROOT.glob(match["file"])) or list(ROOT.glob(f"tests/**/{match['file']}"))
        assert files, match["file"]
        if match["function"]:
            assert f"def {match['function']}(" in files[0].read_text(), match["function"]


def test_every_step_of_the_simulation_is_told_of():
    assert STEPS - set(inline_code(PAGE)) == set()
