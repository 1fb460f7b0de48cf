"""Requests between servers are signed, because TLS may end before the program that answers.

The signature covers what is asked, of whom, by whom and with which body, and when it was made. It
is made with the sender's Ed25519 key, which the receiver knows from its configuration. An old
request that somebody repeats does no harm (all requests are idempotent), so the window of time is
wide and clocks may be wrong by a good deal.

Source: RFC 9421 (HTTP message signatures), RFC 9530 (Content-Digest).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import (
    ContentDigest,
    HTTPMessageSignaturesException,
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
)
from http_message_signatures.algorithms import ED25519

from ledger.clock import Clock
from ledger.configuration import Directory
from ledger.errors import PeerError
from ledger.events import ServerId
from ledger.identity import ServerIdentity

FRESH_FOR: Final = dt.timedelta(hours=1)
"""How far the clocks of two servers may be apart, either way."""
SENDER: Final = "vmledger-sender"
RECEIVER: Final = "vmledger-receiver"
_TAG: Final = "vmledger-replication"
_COVERED: Final = ("@method", "@path", "content-type", "content-digest", SENDER, RECEIVER)


@dataclass(frozen=True, slots=True)
class _Request:
    """A request as the library wants to see it."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)


class _OwnKey(HTTPSignatureKeyResolver):
    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:  # noqa: ARG002  (we have one)
        return self._key


class _PeerKeys(HTTPSignatureKeyResolver):
    def __init__(self, directory: Directory) -> None:
        self._keys = {
            peer.id: Ed25519PublicKey.from_public_bytes(peer.public_key) for peer in directory.peers
        }

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey | None:
        return self._keys.get(key_id)


class _Verifier(HTTPMessageVerifier):
    """The library's verifier on our clock."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        super().__init__(signature_algorithm=ED25519, key_resolver=_PeerKeys(directory))
        self._clock = clock

    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:  # noqa: ARG002  (ours is fixed)
        created = sig_input.params.get("created")
        if type(created) is not int:
            raise InvalidSignature("the signature does not say when it was made")
        if abs(created - self._clock.now().timestamp()) > FRESH_FOR.total_seconds():
            raise InvalidSignature("the signature is too old, or from the future; set the clocks")


def sign_request(
    *,
    identity: ServerIdentity,
    receiver: ServerId,
    url: str,
    content_type: str,
    body: bytes,
    now: dt.datetime,
    nonce: str,
) -> dict[str, str]:
    """Give all headers of a signed POST. Takes time in proportion to the body."""
    headers = {"content-type": content_type, SENDER: identity.server_id, RECEIVER: receiver}
    signer = HTTPMessageSigner(
        signature_algorithm=ED25519, key_resolver=_OwnKey(identity.private_key)
    )
    signer.sign(
        _Request("POST", url, headers),
        key_id=identity.server_id,
        created=now,
        nonce=nonce,
        tag=_TAG,
        covered_component_ids=_COVERED,
        body=body,
    )
    return headers


class SignatureCheck:
    """Finds out which peer signed a request."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._this_server = directory.this_server
        self._verifier = _Verifier(directory, clock)

    def sender_of(self, path: str, headers: Iterable[tuple[str, str]]) -> ServerId:
        """Give the sender of a POST to this server; its body is still to be checked.

        Raises PeerError when the signature is missing or wrong, when it leaves out what it must
        cover, or when the request is for somebody else.
        """
        fields = _joined(headers)
        claimed = fields.get(SENDER, "nobody")
        request = _Request("POST", f"https://{self._this_server}{path}", fields)
        try:
            [result] = self._verifier.verify(
                request, max_age=None, expect_tag=_TAG, require_components=_COVERED
            )
        except (HTTPMessageSignaturesException, ValueError) as error:
            raise PeerError(
                f"a request that names {claimed!r} as its sender is not signed by it: {error}",
                peer=claimed,
            ) from error
        if result.parameters["keyid"] != claimed or fields[RECEIVER] != self._this_server:
            raise PeerError(
                f"a request of {claimed!r} was signed by another server, or is not for this one",
                peer=claimed,
            )
        return claimed


def check_body(headers: Iterable[tuple[str, str]], body: bytes, peer: ServerId) -> None:
    """Compare a body with its signed digest; raises PeerError. Takes time as `sign_request`."""
    try:
        ContentDigest.verify(_joined(headers)["content-digest"], body)
    except (HTTPMessageSignaturesException, KeyError) as error:
        raise PeerError(f"the body of a request of {peer} is not the signed one", peer=peer) from (
            error
        )


def _joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in headers:
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields
