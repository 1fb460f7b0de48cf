"""Which PINs are taken, and how one is checked."""

import pytest

from ledger import pin
from ledger.errors import CorruptionError
from ledger.pin import ScryptCost, UnfitPinError

CHEAP = ScryptCost(n=2, r=1)


def verifier(secret: str) -> pin.Verifier:
    document = pin.make_verifier(secret, lambda size: b"s" * size, CHEAP)
    return pin.read_verifier(document, "here")


@pytest.mark.parametrize("good", ["2580", "0142", "99998", "1357", "1234321", "1234567890123457"])
def test_ordinary_pins_are_taken(good):
    pin.check_fitness(good, "2001", min_digits=4)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "digits"),
        ("123", "digits"),
        ("12a4", "digits"),
        (" 2580", "digits"),
        ("٢٥٨٠", "digits"),
        ("25801234567890123", "digits"),
        ("2001", "extension"),
        ("7777", "over and over"),
        ("1234", "run"),
        ("9876", "run"),
        ("7890", "run"),
        ("3210", "run"),
    ],
)
def test_what_anybody_would_try_first_is_refused_and_not_repeated(bad, why):
    with pytest.raises(UnfitPinError, match=why) as caught:
        pin.check_fitness(bad, "2001", min_digits=4)
    if bad and bad != "1234":  # the example in the text
        assert bad not in caught.value.message


def test_operator_may_ask_for_longer_ones():
    with pytest.raises(UnfitPinError, match="6 to 16 digits"):
        pin.check_fitness("25801", "2001", min_digits=6)


def test_verifier_matches_its_pin_and_no_other():
    made = verifier("2580")
    assert pin.matches(made, "2580")
    assert not pin.matches(made, "2581")
    assert not pin.matches(made, "")


def test_verifier_does_not_hold_the_pin_and_is_another_each_time():
    salts = iter((b"a" * 16, b"b" * 16))
    one, other = (pin.make_verifier("2580", lambda size: next(salts), CHEAP) for _ in range(2))
    assert b"2580" not in one
    assert one != other


def test_verifier_names_its_algorithm_and_cost():
    made = verifier("2580")
    assert (made.algorithm, made.n, made.r, made.p) == ("scrypt", 2, 1, 1)
    assert b'"algorithm":"scrypt"' in pin.make_verifier("2580", lambda size: b"s" * size, CHEAP)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b'{"algorithm":"md5","n":2,"r":1,"p":1,"salt":"eA==","hash":"eA=="}',
        b'{"n":3,"r":1,"p":1,"salt":"eA==","hash":"%s"}' % (b"A" * 43 + b"="),
        b'{"n":1048576,"r":32,"p":1,"salt":"eA==","hash":"%s"}' % (b"A" * 43 + b"="),
        b'{"n":2,"r":1,"p":1,"salt":"eA==","hash":"eA=="}',
        b'{"n":65536,"r":1,"p":1,"salt":"eA==","hash":"%s"}' % (b"A" * 43 + b"="),
        b'{"n":2,"r":1,"p":1,"salt":"!","hash":"%s"}' % (b"A" * 43 + b"="),
    ],
)
def test_what_is_no_verifier_is_corrupt(document):
    with pytest.raises(CorruptionError, match="not readable"):
        pin.read_verifier(document, "here")
