"""Numbers as headers write them, and nothing else."""

import pytest

from ledger.header_number import LARGEST, parse_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("8000", 8000), ("007", 7), ("000", 0)])
def test_digits_are_read(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", " 1", "-1", "+1", "1.0", "1_000", "٣", "²", "0x1"])
def test_anything_else_is_no_number(text):
    assert parse_number(text) is None


def test_thousands_of_digits_count_as_more_than_anybody_needs():
    assert parse_number("9" * 5000) == LARGEST
    assert parse_number("0" * 5000 + "7") == 7
