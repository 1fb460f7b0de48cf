"""What the documentation calls by its name in the code, has that name in the code."""

import importlib
import re

import pytest

from tests.support.markdown import PAGES, ROOT, fenced, inline_code, name_of

FOLDERS = ("ledger", "projections", "vmledger", "migrations", "tests", "benchmarks", "docs")
PATH = re.compile(rf"(?:{'|'.join(FOLDERS)}|scripts)/[\w./-]*")
DOTTED = re.compile(rf"(?:{'|'.join(FOLDERS[:4])})(?:\.(?!toml|sqlite|service)\w+)+")
CLASS = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z0-9]+)+")
MAKE = re.compile(r"\bmake ([a-z]+)\b")

CODE = [(page, code) for page in PAGES for code in inline_code(page)]
SOURCES = "\n".join(
    path.read_text() for folder in FOLDERS[:6] for path in (ROOT / folder).rglob("*.py")
)


def named(pattern: re.Pattern[str]):
    found = sorted({(name_of(page), code) for page, code in CODE if pattern.fullmatch(code)})
    return pytest.mark.parametrize(("page", "code"), found)


@named(PATH)
def test_path_in_the_documentation_exists(page, code):
    assert (ROOT / code).exists(), f"{page} speaks of {code}"


@named(DOTTED)
def test_dotted_name_in_the_documentation_can_be_imported(page, code):
    try:
        importlib.import_module(code)
    except ModuleNotFoundError:
        module, _, name = code.rpartition(".")
        assert hasattr(importlib.import_module(module), name), f"{page} speaks of {code}"


@named(CLASS)
def test_class_in_the_documentation_is_declared(page, code):
    assert re.search(rf"^(?:class )?{code}\b", SOURCES, re.MULTILINE), f"{page} speaks of {code}"


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
