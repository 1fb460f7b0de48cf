"""Every claim is somewhere in the code, and some test would miss it."""

import ast
import re

from tests.support.markdown import ROOT

ROW = re.compile(
    r"^\| (?P<claims>\d[\d, ]*) \| (?P<element>.+?) \| (?P<modules>.+?) \| (?P<tests>.+) \|$"
)
PAGE = ROOT / "docs" / "traceability.md"
ROWS = [match for line in PAGE.read_text().splitlines() if (match := ROW.match(line))]
NODE = re.compile(r"(?P<file>tests/[\w/]+\.py)::(?P<function>test_\w+)")


def named_in(column: str) -> list[str]:
    return [name for row in ROWS for name in re.findall(r"`([^`]+)`", row[column])]


def test_every_row_of_the_table_names_modules_and_tests():
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d", line)]
    assert len(ROWS) == len(lines)
    for row in ROWS:
        assert re.findall(r"`[^`]+`", row["modules"]), row["element"]
        assert re.findall(r"`[^`]+`", row["tests"]), row["element"]


def test_each_of_the_15_claims_appears_and_no_other():
    claims = {int(claim) for row in ROWS for claim in row["claims"].split(",")}
    assert claims == set(range(1, 16))


def test_every_module_named_exists():
    modules = named_in("modules")
    assert modules
    assert [module for module in modules if not (ROOT / module).exists()] == []


def test_every_test_named_exists():
    nodes = named_in("tests")
    assert nodes
    assert [node for node in nodes if not exists(node)] == []


def exists(node: str) -> bool:
    match = NODE.fullmatch(node)
    if match is None or not (ROOT / match["file"]).exists():
        return False
    tree = ast.parse((ROOT / match["file"]).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(n, functions) and n.name == match["function"] for n in tree.body)
