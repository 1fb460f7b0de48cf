"""Claims on extensions: what they cover, which wins, which clash; compared with brute force."""

from functools import cache
from itertools import product

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ledger.configuration.patterns import (
    Claim,
    PatternIndex,
    PatternKind,
    clash,
    find_clashes,
    parse_pattern,
)
from ledger.errors import CallerError

MAX_DIGITS = 4
DIGITS = "0129"
"""Two ends and two neighbours: enough for every way in which intervals can lie."""
NUMBERS = ["".join(p) for n in range(1, MAX_DIGITS + 1) for p in product("0123456789", repeat=n)]
SOME_NUMBERS = ["".join(p) for n in range(1, MAX_DIGITS) for p in product(DIGITS, repeat=n)]

digits = st.text(DIGITS, min_size=1, max_size=3)


@st.composite
def ranges(draw):
    length = draw(st.integers(1, 3))
    ends = draw(st.tuples(*[st.text(DIGITS, min_size=length, max_size=length)] * 2))
    return f"{min(ends)}-{max(ends)}"


patterns = st.one_of(
    digits, ranges(), digits.map("{}*".format), st.just("*"), st.sampled_from(["ann", "an*", "bo"])
).map(parse_pattern)


@cache
def members(pattern, length):
    return {n for n in NUMBERS if len(n) == length and pattern.covers(n)}


def clashes_by_brute_force(one, other):
    """Some extension is in both, and there neither set is inside the other."""
    if one == other:
        return True
    for length in range(1, MAX_DIGITS + 1):
        mine, theirs = members(one, length), members(other, length)
        if not mine & theirs:
            continue
        if mine == theirs:
            kinds = {one.kind, other.kind}
            if PatternKind.PREFIX not in kinds:
                return True
        elif not (mine < theirs or theirs < mine):
            return True
    return False


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("4711", ["4711"], ["471", "47110", "4712"]),
        ("2000-2999", ["2000", "2500", "2999"], ["1999", "3000", "200", "20000", "2abc"]),
        ("0100-0199", ["0100", "0199"], ["100", "199", "0200"]),
        ("30*", ["30", "300", "3099999"], ["3", "31", "130"]),
        ("*", ["", "1", "ann"], []),
        ("ann", ["ann"], ["Ann", "anna"]),
        ("+49*", ["+49123"], ["49123"]),
    ],
)
def test_pattern_covers(text, inside, outside):
    pattern = parse_pattern(text)
    assert all(pattern.covers(extension) for extension in inside)
    assert not any(pattern.covers(extension) for extension in outside)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "write one extension"),
        ("20-300", "one range for each number of digits"),
        ("2999-2000", "write it as 2000-2999"),
        ("2*0", "write one extension"),
        ("**", "write one extension"),
        ("20 00", "write one extension"),
        ("2000-", "write one extension"),
        ("2000-2999*", "write one extension"),
        ("٣٣", "write one extension"),
        ("a-b", "write one extension"),
        ("4711\n", "write one extension"),
        ("1" * 500, "shorten it"),
    ],
)
def test_text_that_is_no_pattern_is_refused_with_advice(text, advice):
    with pytest.raises(CallerError, match=advice):
        parse_pattern(text)


@given(patterns)
def test_pattern_is_read_again_as_it_is_written(pattern):
    assert parse_pattern(str(pattern)) == pattern


@given(patterns, st.integers(1, MAX_DIGITS))
def test_interval_holds_exactly_the_covered_numbers(pattern, length):
    interval = pattern.interval(length)
    if pattern.first == "" or pattern.first.isdigit():
        run = range(interval[0], interval[1] + 1) if interval else []
        assert {str(n).zfill(length) for n in run} == members(pattern, length)
    else:
        assert interval is None


@given(patterns, patterns)
@example(parse_pattern("00-21"), parse_pattern("2*"))
@example(parse_pattern("20-29"), parse_pattern("2*"))
@example(parse_pattern("12-12"), parse_pattern("12"))
@example(parse_pattern("00-20"), parse_pattern("10-29"))
def test_clash_agrees_with_brute_force(one, other):
    shared = clash(one, other)
    assert (shared is not None) == clashes_by_brute_force(one, other)
    assert clash(other, one) == shared
    if shared is not None:
        assert one.covers(shared)
        assert other.covers(shared)


@given(st.lists(st.tuples(st.sampled_from(["default", "sales"]), patterns), max_size=8))
def test_all_clashing_pairs_are_found(found):
    claims = [Claim(context, pattern) for context, pattern in found]
    expected = {
        (one, other)
        for other in range(len(claims))
        for one in range(other)
        if claims[one].context == claims[other].context
        and clashes_by_brute_force(claims[one].pattern, claims[other].pattern)
    }
    assert {(one, other) for one, other, _ in find_clashes(claims)} == expected


@given(st.lists(patterns, min_size=1, max_size=8))
def test_narrowest_claim_wins(found):
    claims = [Claim("default", pattern) for pattern in found]
    assume(not list(find_clashes(claims)))
    index = PatternIndex([(claim, claim.pattern) for claim in claims])
    for extension in [*SOME_NUMBERS, "ann", "anna", "bo", ""]:
        covering = [pattern for pattern in found if pattern.covers(extension)]
        winner = index.find("default", extension)
        assert (winner is None) == (not covering)
        for other in covering:
            mine, theirs = (members(p, len(extension)) for p in (winner, other))
            assert mine <= theirs or not extension.isdigit()
            assert winner == other or mine < theirs or other.kind is PatternKind.PREFIX
            if not extension.isdigit():
                assert len(winner.first) >= len(other.first)


@given(st.lists(patterns, max_size=8), st.randoms(use_true_random=False))
def test_winner_does_not_depend_on_the_order_of_the_file(found, random):
    claims = [Claim("default", pattern) for pattern in found]
    assume(not list(find_clashes(claims)))
    shuffled = random.sample(claims, len(claims))
    one, other = (PatternIndex([(c, c.pattern) for c in order]) for order in (claims, shuffled))
    for extension in SOME_NUMBERS:
        assert one.find("default", extension) == other.find("default", extension)


def test_contexts_do_not_meet():
    index = PatternIndex([(Claim("sales", parse_pattern("*")), "sales")])
    assert index.find("sales", "2001") == "sales"
    assert index.find("default", "2001") is None


def test_ten_thousand_claims_are_compared_without_trying_all_pairs():
    claims = [Claim("default", parse_pattern(f"{n:05}")) for n in range(10_000)]
    claims += [Claim("default", parse_pattern(f"{n}00-{n}99")) for n in range(100, 1000)]
    assert not list(find_clashes(claims))
    assert len(list(find_clashes([*claims, Claim("default", parse_pattern("10050-10149"))]))) == 2
