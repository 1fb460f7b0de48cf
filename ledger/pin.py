"""PINs: which ones are taken, and what one is checked against.

A PIN has few digits, so whoever holds its verifier finds it by trying all of them; the slow hash
only makes that take hours instead of a blink. That is why a verifier never stands in the log, is
kept where it can be thrown away, and why guesses at a server are counted. No error below repeats
the PIN.

Source: RFC 7914 (scrypt).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
from typing import Annotated, Final, Literal

import msgspec

from ledger.errors import CallerError, CorruptionError
from ledger.ids import RandomBytes

MOST_DIGITS: Final = 16
_DIGITS: Final = "0123456789"
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32


class UnfitPinError(CallerError):
    """This PIN is not taken. The text says why, and never what it was."""


def check_fitness(pin: str, extension: str, *, min_digits: int) -> None:
    """Raise UnfitPinError for a PIN that is malformed, or among the first that anybody tries."""
    if not (min_digits <= len(pin) <= MOST_DIGITS and set(pin) <= set(_DIGITS)):
        raise UnfitPinError(f"a PIN has {min_digits} to {MOST_DIGITS} digits and nothing else")
    if pin == extension:
        raise UnfitPinError("the PIN is the extension, which callers know; choose another")
    if len(set(pin)) == 1:
        raise UnfitPinError("the PIN is one digit over and over; choose another")
    steps = {(int(b) - int(a)) % 10 for a, b in itertools.pairwise(pin)}
    if steps in ({1}, {9}):
        raise UnfitPinError("the PIN is a run like 1234 or 4321; choose another")


class ScryptCost(msgspec.Struct, frozen=True):
    """How much work one check is: memory is ``128 * n * r`` bytes."""

    n: Annotated[int, msgspec.Meta(ge=2, le=1 << 20)] = 1 << 15
    r: Annotated[int, msgspec.Meta(ge=1, le=32)] = 8
    p: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1


USUAL_COST: Final = ScryptCost()
"""About a tenth of a second and 32 MiB."""


class Verifier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a PIN is checked against, as JSON."""

    algorithm: Literal["scrypt"] = "scrypt"
    n: Annotated[int, msgspec.Meta(ge=2, le=1 << 20)]
    r: Annotated[int, msgspec.Meta(ge=1, le=32)]
    p: Annotated[int, msgspec.Meta(ge=1, le=16)]
    salt: str
    """Base64."""
    hash: str
    """Base64."""


def make_verifier(pin: str, random_bytes: RandomBytes, cost: ScryptCost) -> bytes:
    """Give the verifier of a PIN as JSON. Slow on purpose."""
    salt = random_bytes(_SALT_BYTES)
    verifier = Verifier(
        n=cost.n,
        r=cost.r,
        p=cost.p,
        salt=base64.b64encode(salt).decode(),
        hash=base64.b64encode(_hash(pin, salt, cost)).decode(),
    )
    # The algorithm is always written, so that a lone file explains itself.
    return msgspec.json.encode(msgspec.structs.asdict(verifier))


def read_verifier(document: bytes, place: str) -> Verifier:
    """Read a verifier; raises CorruptionError for anything else."""
    try:
        verifier = msgspec.json.decode(document, type=Verifier)
        is_whole = len(_decode(verifier.salt)) >= 1 and len(_decode(verifier.hash)) == _HASH_BYTES
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        is_whole = False
    if not is_whole or not _can_be_checked(verifier):
        raise CorruptionError("what a PIN is checked against is not readable", place=place)
    return verifier


def _can_be_checked(verifier: Verifier) -> bool:
    """Look at a cost, which was chosen by whoever wrote it.

    n is a power of two below 2^(128 * r / 8) (RFC 7914 section 2), and a check must not take all
    memory.
    """
    is_power_of_two = verifier.n & (verifier.n - 1) == 0
    is_possible = verifier.n < 1 << (16 * verifier.r)
    return is_power_of_two and is_possible and 128 * verifier.n * verifier.r <= 1 << 28


def matches(verifier: Verifier, pin: str) -> bool:
    """Is this the PIN? Slow on purpose, and takes as long for a wrong one."""
    found = _hash(pin, _decode(verifier.salt), ScryptCost(verifier.n, verifier.r, verifier.p))
    return hmac.compare_digest(found, _decode(verifier.hash))


def _hash(pin: str, salt: bytes, cost: ScryptCost) -> bytes:
    memory_bytes = 128 * cost.n * cost.r + 128 * cost.r * cost.p
    return hashlib.scrypt(
        pin.encode(),
        salt=salt,
        n=cost.n,
        r=cost.r,
        p=cost.p,
        maxmem=memory_bytes + (1 << 20),
        dklen=_HASH_BYTES,
    )


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
