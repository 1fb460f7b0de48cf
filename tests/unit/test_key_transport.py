"""Keys of calls are sealed for one server; nobody else opens them, nor for another way."""

import hashlib
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ledger.key_transport import open_keys, seal_keys, sealed_bytes, way_of
from ledger.sealing import MessageKey


def private_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def public_key(name: str) -> bytes:
    return private_key(name).public_key().public_bytes_raw()


KEYS = [MessageKey(UUID(int=n), bytes([n]) * 32) for n in (1, 2, 3)]
WAY = way_of("alpha", "bravo")


def drawn(size: int) -> bytes:
    return bytes(range(size))


def sealed() -> bytes:
    return seal_keys(KEYS, public_key("bravo"), WAY, drawn)


def test_receiver_opens_what_was_sealed_for_it():
    assert open_keys(sealed(), private_key("bravo"), WAY) == KEYS
    assert len(sealed()) == sealed_bytes(len(KEYS))
    assert not any(key.secret in sealed() for key in KEYS)


def test_no_keys_are_no_bytes():
    assert seal_keys([], public_key("bravo"), WAY, drawn) == b""
    assert open_keys(b"", private_key("bravo"), WAY) == []


@pytest.mark.parametrize("name", ["alpha", "charlie"])
def test_nobody_else_opens_them(name):
    with pytest.raises(ValueError, match="not sealed for this server"):
        open_keys(sealed(), private_key(name), WAY)


@pytest.mark.parametrize("other", [way_of("charlie", "bravo"), way_of("bravo", "alpha")])
def test_keys_on_another_way_are_not_taken(other):
    with pytest.raises(ValueError, match="not sealed for this server"):
        open_keys(sealed(), private_key("bravo"), other)


def test_every_flipped_bit_and_every_cut_is_noticed():
    whole = sealed()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        with pytest.raises(ValueError, match="sealed"):
            open_keys(bytes(flipped), private_key("bravo"), WAY)
    for size in range(1, len(whole)):
        with pytest.raises(ValueError):
            open_keys(whole[:size], private_key("bravo"), WAY)


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, b"short"])
def test_what_is_no_public_key_has_nothing_sealed_for_it(point):
    with pytest.raises(ValueError, match="no Ed25519 public key"):
        seal_keys(KEYS, point, WAY, drawn)


def test_point_of_low_order_agrees_on_no_secret():
    forged = bytes(32) + sealed()[32:]
    with pytest.raises(ValueError):
        open_keys(forged, private_key("bravo"), WAY)


def test_public_and_private_half_stay_a_pair_when_they_are_mapped():
    """A hundred of them: what is sealed by the public half opens with the private one."""
    for number in range(100):
        name = f"server {number}"
        found = open_keys(seal_keys(KEYS, public_key(name), WAY, drawn), private_key(name), WAY)
        assert found == KEYS


def test_map_is_the_one_of_rfc_7748():
    """The base points: u = 9 for y = 4/5; and libsodium's published pair of converted keys."""
    from ledger.key_transport import _montgomery, _scalar  # noqa: PLC0415

    p = 2**255 - 19
    base = (4 * pow(5, -1, p) % p).to_bytes(32, "little")
    assert _montgomery(base) == (9).to_bytes(32, "little")
    seed = bytes.fromhex("421151a459faeade3d247115f94aedae42318124095afabe4d1451a559faedee")
    key = Ed25519PrivateKey.from_private_bytes(seed)
    curve_public = "f1814f0e8ff1043d8a44d25babff3cedcae6c22c3edaa48f857ae70de2baae50"
    curve_private = "8052030376d47112be7f73ed7a019293dd12ad910b654455798b4667d73de166"
    assert _montgomery(key.public_key().public_bytes_raw()).hex() == curve_public
    own = X25519PrivateKey.from_private_bytes(_scalar(key))
    clamped = X25519PrivateKey.from_private_bytes(bytes.fromhex(curve_private))
    assert own.public_key() == clamped.public_key()
    assert own.public_key().public_bytes_raw().hex() == curve_public
