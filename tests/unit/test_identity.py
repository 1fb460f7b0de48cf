"""Who a server is: keys in files, and signatures."""

import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ledger.errors import CallerError, ConflictError, PeerError
from ledger.identity import (
    generate_identity,
    load_identity,
    parse_public_key,
    public_key_text,
    save_identity,
    verify_signature,
    write_new_file,
)

ALPHA = generate_identity("alpha")


def test_signature_fits_the_public_key():
    verify_signature(ALPHA.public_key, ALPHA.sign(b"data"), b"data", peer="alpha")


@pytest.mark.parametrize(
    ("key", "signature", "data"),
    [
        (ALPHA.public_key, ALPHA.sign(b"data"), b"other data"),
        (ALPHA.public_key, ALPHA.sign(b"data")[:-1], b"data"),
        (ALPHA.public_key, b"", b"data"),
        (generate_identity("bravo").public_key, ALPHA.sign(b"data"), b"data"),
        (b"short", ALPHA.sign(b"data"), b"data"),
    ],
    ids=["other data", "cut signature", "no signature", "other key", "no key"],
)
def test_signature_that_does_not_fit_blames_the_peer(key, signature, data):
    with pytest.raises(PeerError, match="'alpha' does not fit") as raised:
        verify_signature(key, signature, data, peer="alpha")
    assert raised.value.peer == "alpha"


def test_saved_key_is_the_same_after_loading(tmp_path):
    save_identity(ALPHA, tmp_path / "server.key")
    loaded = load_identity("alpha", tmp_path / "server.key")
    assert loaded.public_key == ALPHA.public_key
    assert loaded.sign(b"data") == ALPHA.sign(b"data")


def test_saved_key_is_only_for_its_owner(tmp_path):
    save_identity(ALPHA, tmp_path / "server.key")
    assert stat.S_IMODE((tmp_path / "server.key").stat().st_mode) == 0o600


def test_existing_key_is_never_overwritten(tmp_path):
    save_identity(ALPHA, tmp_path / "server.key")
    before = (tmp_path / "server.key").read_bytes()
    with pytest.raises(ConflictError, match="is not overwritten"):
        save_identity(generate_identity("alpha"), tmp_path / "server.key")
    assert (tmp_path / "server.key").read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_key_that_others_can_reach_is_refused(tmp_path, mode):
    path = tmp_path / "server.key"
    save_identity(ALPHA, path)
    path.chmod(mode)
    with pytest.raises(CallerError, match=f"chmod 600 {path}"):
        load_identity("alpha", path)


def test_missing_key_is_named(tmp_path):
    with pytest.raises(CallerError, match=r"server\.key cannot be read \(No such file"):
        load_identity("alpha", tmp_path / "server.key")


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_file_that_is_no_key_is_refused(tmp_path, content):
    write_new_file(tmp_path / "server.key", content, mode=0o600)
    with pytest.raises(CallerError, match="not an unencrypted PEM private key"):
        load_identity("alpha", tmp_path / "server.key")


def test_key_of_another_kind_is_refused(tmp_path):
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_new_file(tmp_path / "server.key", pem, mode=0o600)
    with pytest.raises(CallerError, match="not an Ed25519 key"):
        load_identity("alpha", tmp_path / "server.key")


def test_public_key_survives_its_written_form():
    assert parse_public_key(public_key_text(ALPHA.public_key)) == ALPHA.public_key


@pytest.mark.parametrize(
    "text", ["", "AAAA", "not base64!", "ä", public_key_text(bytes(33)), "A" * 42 + "B="]
)
def test_text_that_is_no_public_key_is_refused(text):
    with pytest.raises(CallerError, match="32-byte Ed25519 public key"):
        parse_public_key(text)


def test_private_key_is_not_shown():
    assert "private" not in repr(ALPHA)
