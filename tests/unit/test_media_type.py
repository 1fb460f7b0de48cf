"""Media types as headers write them, and as nobody should."""

import pytest

from ledger.media_type import parse_media_type


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("audio/PCMU", "audio/pcmu", {}),
        ("  Audio/PCMU ; Rate=8000;channels=1", "audio/pcmu", {"rate": "8000", "channels": "1"}),
        ('audio/pcma; rate="8000" ;q=0.5', "audio/pcma", {"rate": "8000", "q": "0.5"}),
        (r'a/b;x="semi;colon, \"quoted\""', "a/b", {"x": 'semi;colon, "quoted"'}),
        ("a/b;q=", "a/b", {"q": ""}),
    ],
)
def test_name_and_parameters_are_found(text, name, parameters):
    assert parse_media_type(text) == (name, parameters)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", ""),
        ("a/b;;;", "a/b"),
        ('a/b;x="never closed', "a/b"),
        ("a/b;=1", "a/b"),
        ("a/b;x", "a/b"),
    ],
)
def test_what_breaks_the_rules_says_nothing(text, name):
    found, parameters = parse_media_type(text)
    assert found == name
    assert not any(parameters.values())


@pytest.mark.parametrize(
    "text", ["a/b;q*=utf-8''0", "a/b;q*0=0", "a/b;q*=1;q*0=0", "a/b;q*" + "1" * 5_000 + "=0"]
)
def test_parameters_in_pieces_as_mail_has_them_are_other_parameters(text):
    assert "q" not in parse_media_type(text)[1]
