"""Byte ranges as players ask for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmledger.http.ranges import (
    ByteRange,
    UnsatisfiableRangeError,
    is_range_current,
    matches_etag,
    parse_range,
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-99", ByteRange(0, 99)),
        ("bytes=0-0", ByteRange(0, 0)),
        ("bytes=90-", ByteRange(90, 99)),
        ("bytes=90-5000", ByteRange(90, 99)),
        ("bytes=-10", ByteRange(90, 99)),
        ("bytes=-5000", ByteRange(0, 99)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        (f"bytes=0-{'9' * 5000}", None),
    ],
)
def test_a_range_of_a_hundred_bytes_is_read_as_the_standard_says(header, expected):
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=-5", 0)]
)
def test_a_range_of_no_bytes_is_not_satisfiable(header, size):
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, size)


@given(header=st.text(max_size=40), size=st.integers(0, 10**6))
def test_no_header_breaks_the_parser_or_leaves_the_sound(header, size):
    try:
        found = parse_range(header, size)
    except UnsatisfiableRangeError:
        return
    assert found is None or 0 <= found.first <= found.last < size


@given(first=st.integers(0, 999), length=st.integers(1, 1000))
def test_a_range_within_the_sound_is_exactly_what_was_asked_for(first, length):
    last = min(first + length - 1, 999)
    assert parse_range(f"bytes={first}-{last}", 1000) == ByteRange(first, last)


def test_an_etag_matches_itself_a_weak_form_of_itself_and_the_star():
    assert matches_etag('"a"', '"a"')
    assert matches_etag('"b", W/"a"', '"a"')
    assert matches_etag("*", '"a"')
    assert not matches_etag('"b"', '"a"')
    assert not matches_etag(None, '"a"')


def test_a_range_of_an_older_representation_is_not_served():
    assert is_range_current(None, '"a"')
    assert is_range_current('"a"', '"a"')
    assert not is_range_current('"b"', '"a"')
    assert not is_range_current('W/"a"', '"a"')
