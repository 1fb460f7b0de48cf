"""What opens doors: access tokens, PINs, what PINs are checked against, public keys.

The first line of an input is a header, a PIN or a key; all of it may be what a PIN is checked
against. A token is somebody's or nobody's; a PIN is fit or an UnfitPinError; a verifier is one that
any PIN can be checked against, or a CorruptionError; a key is one, or a CallerError.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from ledger.clock import SystemClock
from ledger.errors import CallerError, CorruptionError
from ledger.identity import parse_public_key, public_key_text
from ledger.pin import (
    ScryptCost,
    UnfitPinError,
    check_fitness,
    make_verifier,
    matches,
    read_verifier,
)
from ledger.storage.schema import ACCESS_TOKEN, ROW_SUM
from tests.fuzz.target import Target
from vmledger.access import Scope
from vmledger.tokens import TokenStore

_CHEAP_BYTES = 1 << 24
"""Of memory that a check may take here: dearer verifiers are read and not tried."""


def _tokens() -> TokenStore:
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    for table in (ACCESS_TOKEN, ROW_SUM):
        table.create(engine)
    return TokenStore(engine, SystemClock())


TOKENS = _tokens()
TOKEN = TOKENS.create("switch", [Scope.SWITCH])


def seeds() -> list[bytes]:
    cheap = (ScryptCost(n=16, r=1, p=1), ScryptCost(n=1 << 10, r=8, p=2))
    verifiers = [make_verifier("271828", lambda size: b"s" * size, cost) for cost in cheap]
    return [*verifiers, b"271828", TOKEN.encode(), public_key_text(b"k" * 32).encode()]


def run(data: bytes) -> bool:
    line = data.partition(b"\n")[0].decode("latin-1")
    found = (_is_token(line), _is_fit(line), _is_key(line), _is_verifier(data))
    return any(found)


def _is_token(text: str) -> bool:
    principal = TOKENS.authenticate(text)
    assert (principal is not None) == (text == TOKEN)
    return principal is not None


def _is_fit(pin: str) -> bool:
    try:
        check_fitness(pin, "2001", min_digits=4)
    except UnfitPinError as error:
        assert not pin.strip() or len(pin) < 4 or pin not in str(error)
        return False
    assert pin.isascii()
    assert pin.isdigit()
    return True


def _is_key(text: str) -> bool:
    try:
        key = parse_public_key(text)
    except CallerError:
        return False
    assert public_key_text(key) == text
    return True


def _is_verifier(document: bytes) -> bool:
    try:
        verifier = read_verifier(document, "here")
    except CorruptionError:
        return False
    assert read_verifier(msgspec.json.encode(verifier), "again") == verifier
    if 128 * verifier.n * verifier.r * verifier.p <= _CHEAP_BYTES:
        matches(verifier, "271828")
    return True


TARGET = Target(run, seeds, is_document=True, max_bytes=4096, words=("vml_", "scrypt", "=="))
