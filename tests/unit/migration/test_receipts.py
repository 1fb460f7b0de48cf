"""Receipts: signed by the home, worthless after any change."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from ledger.errors import PeerError
from ledger.events import Receipt
from ledger.identity import generate_identity
from ledger.migration.receipts import sign_receipt, verify_receipt

BRAVO = generate_identity("bravo")
UNSIGNED = Receipt(
    origin="alpha",
    origin_incarnation=UUID(int=1),
    origin_position=7,
    origin_root="a" * 64,
    home="bravo",
    home_incarnation=UUID(int=2),
    home_position=11,
    home_root="b" * 64,
    safe_position=3,
    issued_at=datetime(2026, 1, 1, tzinfo=UTC),
    signature="",
)
RECEIPT = sign_receipt(UNSIGNED, BRAVO)
CHANGES = {
    "origin": "charlie",
    "origin_incarnation": UUID(int=3),
    "origin_position": 8,
    "origin_root": "c" * 64,
    "home": "charlie",
    "home_incarnation": UUID(int=3),
    "home_position": 12,
    "home_root": "c" * 64,
    "safe_position": 4,
    "issued_at": datetime(2026, 1, 2, tzinfo=UTC),
    "signature": sign_receipt(
        msgspec.structs.replace(UNSIGNED, origin_position=8), BRAVO
    ).signature,
}


def test_signed_receipt_verifies():
    verify_receipt(RECEIPT, BRAVO.public_key)


def test_signing_changes_only_the_signature():
    assert msgspec.structs.replace(RECEIPT, signature="") == UNSIGNED


def test_receipt_still_verifies_after_a_journey_as_json():
    verify_receipt(
        msgspec.json.decode(msgspec.json.encode(RECEIPT), type=Receipt), BRAVO.public_key
    )


def test_every_field_has_a_change_to_try():
    assert set(CHANGES) == set(Receipt.__struct_fields__)


@pytest.mark.parametrize("field", CHANGES)
def test_receipt_with_any_field_changed_is_refused(field):
    with pytest.raises(PeerError):
        verify_receipt(
            msgspec.structs.replace(RECEIPT, **{field: CHANGES[field]}), BRAVO.public_key
        )


def test_receipt_of_another_key_is_refused():
    with pytest.raises(PeerError, match="'bravo'"):
        verify_receipt(RECEIPT, generate_identity("bravo").public_key)


@pytest.mark.parametrize("signature", ["", "!", "ä", "AAAA"])
def test_receipt_without_a_real_signature_is_refused(signature):
    with pytest.raises(PeerError):
        verify_receipt(msgspec.structs.replace(RECEIPT, signature=signature), BRAVO.public_key)


def test_server_signs_no_receipt_of_another():
    with pytest.raises(AssertionError, match="only its own"):
        sign_receipt(UNSIGNED, generate_identity("charlie"))
