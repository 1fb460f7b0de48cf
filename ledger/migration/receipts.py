"""Receipts: a home's signed word that it holds a message, made and checked.

What a receipt says and which bytes its signature covers stand with the events, because receipts are
kept in the log for ever. Whether a receipt answers *this* batch (its origin, incarnation and
positions) is for whoever sent the batch to check; here it is only proved who wrote it.

Source: claims 5, 7 and 8.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from ledger.errors import PeerError
from ledger.events import Receipt, receipt_signing_bytes
from ledger.identity import ServerIdentity, Verifier, verify_signature


def sign_receipt(receipt: Receipt, identity: ServerIdentity) -> Receipt:
    """Give the receipt with this home's signature; a server signs only its own receipts."""
    assert receipt.home == identity.server_id, "a server signs only its own receipts"
    signature = identity.sign(receipt_signing_bytes(receipt))
    return msgspec.structs.replace(receipt, signature=base64.b64encode(signature).decode("ascii"))


def verify_receipt(
    receipt: Receipt, public_key: bytes, verify: Verifier = verify_signature
) -> None:
    """Return if the receipt is signed by the home with that key; else raise PeerError."""
    try:
        signature = base64.b64decode(receipt.signature, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PeerError(
            f"the signature of a receipt of server {receipt.home!r} is not base64; "
            "both servers should run the same release",
            peer=receipt.home,
        ) from error
    verify(public_key, signature, receipt_signing_bytes(receipt), peer=receipt.home)
