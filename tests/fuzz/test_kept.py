"""Inputs that a fuzzer once broke a contract with, and those that it begins with."""

import contextlib
import typing

import pytest

from ledger.migration import wire
from tests.fuzz.documents import changed
from tests.fuzz.target import KEPT, kept, load, names
from tests.fuzz.targets.wire import ANSWERS, REQUESTS


@contextlib.contextmanager
def opened(name):
    target = load(name)
    try:
        yield target
    finally:
        target.close()


def test_every_kept_input_belongs_to_a_target():
    assert {folder.name for folder in KEPT.iterdir()} <= set(names())


@pytest.mark.parametrize(
    ("name", "file"), [pytest.param(n, f, id=f"{n}-{f.name}") for n in names() for f in kept(n)]
)
def test_kept_input_breaks_no_contract(name, file):
    with opened(name) as target:
        target.run(file.read_bytes())


@pytest.mark.parametrize("name", names())
def test_seeds_are_accepted(name):
    """A target that refuses everything would find nothing."""
    with opened(name) as target:
        for seed in target.seeds():
            assert len(seed) <= target.max_bytes
            assert target.run(seed), seed


def test_every_message_between_servers_is_a_seed():
    assert {type(one) for one in REQUESTS} == set(typing.get_args(wire.Request))
    assert {type(one) for one in ANSWERS} == set(typing.get_args(wire.Answer))


@pytest.mark.parametrize("name", names())
def test_changed_seeds_break_no_contract(name):
    """A few inputs as a fuzzer makes them, so that a target that rots is noticed without one."""
    with opened(name) as target:
        for number, seed in enumerate(target.seeds()):
            for variant in range(5):
                target.run(changed(seed, target.max_bytes, number * 100 + variant, _flip))


def _flip(data: bytes, max_bytes: int) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle + 1 :] if data else b"x"
