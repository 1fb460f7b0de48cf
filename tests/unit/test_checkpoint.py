"""Checkpoints and what witnesses put under them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import (
    Checkpoint,
    cosign,
    cosigned_at,
    log_key,
    log_name,
    parse_checkpoint,
    sign_checkpoint,
    witness_key,
)
from ledger.errors import CallerError
from ledger.identity import generate_identity
from ledger.signed_note import SignedNote, parse_note

# The example of the specification; it publishes no keys, so its frame is what can be compared.
SPEC_EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcy"
    "v2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX"
    "3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
ALPHA, BRAVO = generate_identity("alpha"), generate_identity("bravo")
INCARNATION = UUID(int=7)
AT = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)


def checkpoint(size: int = 3) -> Checkpoint:
    return Checkpoint(log_name("alpha", INCARNATION), size, bytes(range(32)))


def test_checkpoint_of_the_specification_is_read():
    note, found = parse_checkpoint(SPEC_EXAMPLE)
    assert (found.log, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert found.to_text() == note.text
    assert note.to_text() == SPEC_EXAMPLE


def test_cosignature_of_the_specification_has_the_time_that_it_tells():
    note, _ = parse_checkpoint(SPEC_EXAMPLE)
    assert int.from_bytes(note.signatures[1].data[:8], "big") == 1679315147
    assert len(note.signatures[1].data) == 8 + 64


@given(st.integers(0, 10**18), st.binary(min_size=32, max_size=32))
def test_checkpoint_is_read_as_it_was_signed(size, root):
    said = Checkpoint(log_name("alpha", INCARNATION), size, root)
    note, found = parse_checkpoint(sign_checkpoint(said, ALPHA).to_text())
    assert found == said
    assert note.is_signed_by(log_key("alpha", INCARNATION, ALPHA.public_key))


def test_checkpoint_of_another_incarnation_is_of_another_log():
    note = sign_checkpoint(checkpoint(), ALPHA)
    assert not note.is_signed_by(log_key("alpha", UUID(int=8), ALPHA.public_key))


@pytest.mark.parametrize(
    "text",
    [
        "a\n1\n",
        "a\n01\n" + "A" * 43 + "=\n",
        "a\n-1\n" + "A" * 43 + "=\n",
        "a\n1\nAAAA\n",
        "a\n" + "9" * 20 + "\n" + "A" * 43 + "=\n",
    ],
)
def test_note_that_is_no_checkpoint_is_refused(text):
    with pytest.raises(CallerError, match="three lines"):
        parse_checkpoint(text + "\n— a AAAAAAA=\n")


def test_cosignature_says_who_checked_and_when():
    note = sign_checkpoint(checkpoint(), ALPHA)
    cosigned = SignedNote(note.text, (*note.signatures, cosign(note, "bravo", BRAVO, AT)))
    read = parse_note(cosigned.to_text())
    assert cosigned_at(read, witness_key("bravo", BRAVO.public_key)) == AT
    assert cosigned_at(read, witness_key("bravo", ALPHA.public_key)) is None
    assert cosigned_at(note, witness_key("bravo", BRAVO.public_key)) is None


def test_cosignature_holds_for_its_checkpoint_and_its_time_only():
    note, other = (sign_checkpoint(checkpoint(size), ALPHA) for size in (3, 4))
    line = cosign(note, "bravo", BRAVO, AT)
    later = cosign(note, "bravo", BRAVO, AT + timedelta(seconds=1))
    key = witness_key("bravo", BRAVO.public_key)
    assert cosigned_at(SignedNote(other.text, (line,)), key) is None
    moved = type(line)(line.name, line.key_id, later.data[:8] + line.data[8:])
    assert cosigned_at(SignedNote(note.text, (moved,)), key) is None
