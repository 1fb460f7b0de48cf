"""Signed notes: the published examples, what is refused, and what a changed byte does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import CallerError
from ledger.identity import generate_identity
from ledger.signed_note import ED25519, NoteKey, parse_key, parse_note, sign_note

# The example of Go's note package, whose tools every public log's readers grew out of.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_NOTE = GO_TEXT + (
    "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngo"
    "tpRZb6KE6RyyBwJnAM=\n"
)
# The example of the specification: a text with an empty line in it.
SPEC_NOTE = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouF"
    "SQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)


def test_published_note_is_signed_by_its_published_key():
    note = parse_note(GO_NOTE)
    assert note.text == GO_TEXT
    assert note.is_signed_by(parse_key(GO_KEY))


def test_published_key_is_written_as_it_was_read():
    assert parse_key(GO_KEY).to_text() == GO_KEY


def test_text_ends_at_the_last_empty_line():
    note = parse_note(SPEC_NOTE)
    assert note.text.endswith("sole:\n\ned è subito sera.\n")
    assert [s.name for s in note.signatures] == ["quasimodo.example/salvatore"]
    assert note.to_text() == SPEC_NOTE


@given(st.data())
def test_any_changed_character_of_a_signed_text_shows(data):
    place = data.draw(st.integers(0, len(GO_TEXT) - 2))
    other = data.draw(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))
    changed = GO_NOTE[:place] + other + GO_NOTE[place + 1 :]
    if changed != GO_NOTE:
        assert not parse_note(changed).is_signed_by(parse_key(GO_KEY))


def test_line_of_an_unknown_signer_is_kept_and_means_nothing():
    alpha, mallory = generate_identity("alpha"), generate_identity("mallory")
    note = sign_note("text\n", "alpha", mallory)
    assert parse_note(note.to_text()) == note
    assert not note.is_signed_by(NoteKey("alpha", ED25519, alpha.public_key))
    assert note.is_signed_by(NoteKey("alpha", ED25519, mallory.public_key))


@pytest.mark.parametrize(
    ("note", "why"),
    [
        ("", "an empty line"),
        ("text\n", "an empty line"),
        ("text\n\n", "an empty line"),
        ("text\n\n— a AAAAAAA=", "an empty line"),
        ("text\n\na AAAAAAA=\n", "NAME SIGNATURE"),
        ("text\n\n— a+b AAAAAAA=\n", "NAME SIGNATURE"),
        ("text\n\n—  AAAAAAA=\n", "NAME SIGNATURE"),
        ("text\n\n— a AAAA\n", "NAME SIGNATURE"),
        ("text\n\n— a not base64\n", "NAME SIGNATURE"),
        ("t\0ext\n\n— a AAAAAAA=\n", "control characters"),
        ("x" * 70_000 + "\n\n— a AAAAAAA=\n", "at most 65536 bytes"),
        ("text\n\n" + "— a AAAAAAA=\n" * 101, "at most 100 signatures"),
    ],
)
def test_what_is_no_note_is_refused_with_the_reason(note, why):
    with pytest.raises(CallerError, match=why):
        parse_note(note)


@pytest.mark.parametrize(
    "key",
    ["", "a", "a+b", "a+00000000+", "a+zz+AQ==", "a+00000000+ARpc", GO_KEY.replace("c7", "c8")],
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(CallerError, match="is not a key"):
        parse_key(key)
