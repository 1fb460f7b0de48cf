"""What the documentation calls by its name in the code, has that name in the code."""

import re

from tests.support.markdown import PAGES, ROOT, fenced, inline_code, name_of

FOLDERS = ("ledger", "projections", "vmledger", "migrations", "tests", "benchmarks", "docs")
PATH = re.compile(rf"(?:{'|'.join(FOLDERS)}|scripts)/[\w./-]*")
CLASS = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z0-9]+)+")
MAKE = re.compile(r"\bmake ([a-z]+)\b")

CODE = [(page, code) for page in PAGES for code in inline_code(page)]
SOURCES = "\n".join(
    path.read_text() for folder in FOLDERS[:6] for path in (ROOT / folder).rglob("*.py")
)


def named(pattern: re.Pattern[str]) -> set[tuple[str, str]]:
    """Give page and name for what the pages write as code and what looks like such a name."""
    found = {(name_of(page), code) for page, code in CODE if pattern.fullmatch(code)}
    assert found
    return found


def test_paths_in_the_documentation_exist():
    assert {(page, path) for page, path in named(PATH) if not (ROOT / path).exists()} == set()


def test_classes_in_the_documentation_are_declared():
    declared = set(re.findall(r"^(?:class )?(\w+)[(:]", SOURCES, re.MULTILINE))
    assert {(page, name) for page, name in named(CLASS) if name not in declared} == set()


def test_make_target_in_the_documentation_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    spoken = {
        (name_of(page), target)
        for page in PAGES
        for code in [*inline_code(page), *fenced(page, ""), *fenced(page, "console")]
        for target in MAKE.findall(code)
    }
    assert spoken
    assert {(page, target) for page, target in spoken if target not in targets} == set()
