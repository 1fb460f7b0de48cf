"""What a fuzz target is: one kind of bytes from outside, and the contract of what reads them.

Every target has seeds that the program's own writers made, so that a fuzzer begins where the good
inputs are; and a function that feeds bytes to the program and raises when the contract is broken:
another error than the documented ones came out, or what was accepted does not come out again as it
went in. Time and memory are bounded by the fuzzer, and by the time limit of the tests.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE / "kept"
"""Inputs that once broke a contract: a folder for each target, a file for each input."""


@dataclass(frozen=True)
class Target:
    """A decoder of bytes from outside, or several that read the same kind of thing."""

    run: Callable[[bytes], bool]
    """Feed an input to the program. True when it was accepted, False when it was refused as it
    should be; raises when a contract is broken."""
    seeds: Callable[[], Iterable[bytes]]
    """Good inputs: each of them is accepted."""
    is_document: bool = False
    """Is an input (most often) JSON? Then its structure is mutated, and not only its bytes."""
    max_bytes: int = 8192
    """Longer inputs are not tried."""
    words: tuple[str, ...] = ()
    """What the fuzzer should know to spell."""
    close: Callable[[], None] = lambda: None
    """End what runs keep open from one to the next."""


def names() -> list[str]:
    """List the targets."""
    return sorted(file.stem for file in (HERE / "targets").glob("*.py"))


def load(name: str) -> Target:
    """Give a target by its name."""
    return importlib.import_module(f"tests.fuzz.targets.{name}").TARGET


def kept(name: str) -> list[Path]:
    """List the inputs that once broke a target's contract."""
    return sorted((KEPT / name).glob("*"))
