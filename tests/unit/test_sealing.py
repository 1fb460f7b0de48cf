"""What a message's key and the server's master key promise."""

import os
import random
from hashlib import sha256
from uuid import UUID

import pytest

from ledger.errors import CallerError, ConflictError, CorruptionError
from ledger.sealing import (
    SEALED_OVERHEAD_BYTES,
    WRAPPED_BYTES,
    MasterKey,
    MessageKey,
    WrappedKey,
    key_digest,
    load_master_key,
    new_master_key,
    new_message_key,
)

CALL, OTHER_CALL = UUID(int=7), UUID(int=8)
KEY = MessageKey(CALL, bytes(range(32)))
MASTER = MasterKey(bytes(range(32, 64)))


def test_what_was_sealed_opens_again():
    for plain in (b"", b"+15550100", os.urandom(5_000)):
        sealed = KEY.seal(plain, "caller", os.urandom)
        assert KEY.open(sealed, "caller") == plain
        assert len(sealed) == len(plain) + SEALED_OVERHEAD_BYTES


def test_sealed_bytes_show_nothing_and_differ_each_time():
    first, second = (KEY.seal(b"+15550100", "caller", os.urandom) for _ in range(2))

    assert b"5550100" not in first
    assert first != second


def test_flipped_bit_anywhere_is_found():
    sealed = KEY.seal(b"+15550100", "caller", os.urandom)
    for at in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(CorruptionError):
            KEY.open(bytes(damaged), "caller")


def test_digest_in_events_tells_the_sound_only_to_who_has_its_key():
    digest, other = sha256(b"hello").hexdigest(), sha256(b"hullo").hexdigest()
    kept = KEY.keyed_digest(digest)
    assert kept == KEY.keyed_digest(digest) == key_digest(KEY.digest_key, digest)
    for different in (
        KEY.keyed_digest(other),
        MessageKey(OTHER_CALL, KEY.secret).keyed_digest(digest),
        MessageKey(CALL, bytes(32)).keyed_digest(digest),
        digest,
    ):
        assert kept != different
    assert KEY.digest_key != KEY.secret


def test_cut_anywhere_is_found():
    sealed = KEY.seal(b"+15550100", "caller", os.urandom)
    for length in range(len(sealed)):
        with pytest.raises(CorruptionError):
            KEY.open(sealed[:length], "caller")


def test_sealed_bytes_do_not_open_elsewhere():
    sealed = KEY.seal(b"+15550100", "caller", os.urandom)
    elsewhere = MessageKey(OTHER_CALL, KEY.secret)

    for key, purpose in ((KEY, "transcript"), (elsewhere, "caller")):
        with pytest.raises(CorruptionError, match="does not open"):
            key.open(sealed, purpose)


def test_keys_are_as_random_as_their_source():
    source = random.Random(1)
    keys = {new_message_key(CALL, source.randbytes).secret for _ in range(100)}

    assert len(keys) == 100
    assert {len(secret) for secret in keys} == {32}


def test_secrets_are_in_no_repr():
    for key in (KEY, MASTER):
        assert repr(key.secret) not in repr(key)
        assert "secret" not in repr(key)


def test_wrapped_key_unwraps_to_itself_and_shows_nothing():
    wrapped = MASTER.wrap(KEY, os.urandom)

    assert MASTER.unwrap(wrapped) == KEY
    assert wrapped.wrapped is not None
    assert len(wrapped.wrapped) == WRAPPED_BYTES
    assert KEY.secret not in wrapped.wrapped


def test_flipped_bit_of_a_wrapped_key_is_found():
    wrapped = MASTER.wrap(KEY, os.urandom).wrapped
    assert wrapped is not None
    for at in range(len(wrapped) * 8):
        damaged = bytearray(wrapped)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises((CorruptionError, CallerError)):
            MASTER.unwrap(WrappedKey(CALL, bytes(damaged)))


def test_wrapped_key_of_another_call_is_found():
    wrapped = MASTER.wrap(KEY, os.urandom)

    with pytest.raises(CorruptionError):
        MASTER.unwrap(WrappedKey(OTHER_CALL, wrapped.wrapped))


def test_wrong_master_key_is_named():
    other = MasterKey(bytes(32))
    wrapped = other.wrap(KEY, os.urandom)

    with pytest.raises(CallerError, match=f"{other.name}.*{MASTER.name}"):
        MASTER.unwrap(wrapped)


def test_destroyed_key_cannot_be_unwrapped():
    with pytest.raises(CorruptionError):
        MASTER.unwrap(WrappedKey(CALL, None))


def test_master_key_file_is_for_its_owner_only(tmp_path):
    path = tmp_path / "master.key"
    made = new_master_key(path, os.urandom)

    assert load_master_key(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(CallerError, match="chmod 600"):
        load_master_key(path)


def test_master_key_is_never_overwritten(tmp_path):
    path = tmp_path / "master.key"
    made = new_master_key(path, os.urandom)

    with pytest.raises(ConflictError):
        new_master_key(path, os.urandom)
    assert load_master_key(path) == made


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, b"vmledger-master-key-1 c2hvcnQ=\n", bytes(32), b"A" * 44]
)
def test_file_that_is_no_master_key_is_refused(tmp_path, content):
    path = tmp_path / "master.key"
    path.touch(mode=0o600)
    path.write_bytes(content)

    with pytest.raises(CallerError, match="no master key"):
        load_master_key(path)
