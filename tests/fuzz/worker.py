"""Fuzz one target, in a process of its own: ``python -m tests.fuzz.worker TARGET [LIBFUZZER…]``.

Coverage is measured in this project's code and in the libraries that read outside bytes in Python.
"""

from __future__ import annotations

import importlib
import logging
import sys

import atheris

INSTRUMENTED = (
    *("ledger", "projections", "vmledger", "tomllib"),
    *("http_message_signatures", "http_sfv"),
)


def main() -> None:
    name, *arguments = sys.argv[1:]
    logging.getLogger().addHandler(logging.NullHandler())
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        changed = importlib.import_module("tests.fuzz.documents").changed
        target = importlib.import_module("tests.fuzz.target").load(name)

    def run(data: bytes) -> None:
        target.run(data)

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        return changed(bytes(data), max_bytes, seed, atheris.Mutate)

    options = {"custom_mutator": mutate} if target.is_document else {}
    atheris.Setup(["fuzz", *arguments], run, **options)
    atheris.Fuzz()


main()
