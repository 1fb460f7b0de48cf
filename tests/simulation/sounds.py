"""What is heard in recordings on a machine's disk, by the keys that the machine has."""

from __future__ import annotations

import hashlib
from uuid import UUID

from ledger.errors import NotFoundError
from ledger.events import MessageStored
from ledger.storage.sealed_form import is_sealed, read_key_id, sealed_prefix
from ledger.storage.sealed_recording import open_recording
from ledger.storage.stored_form import intact_prefix, read_metadata
from ledger.storage.vault import Vault


def heard_in(stored: bytes, vault: Vault) -> bytes:
    """Give all that was received of a recording; raises what the program raises."""
    return open_recording(stored, vault.key)


def intact_in(stored: bytes, vault: Vault) -> bytes:
    """Give what is whole of a recording that was cut anywhere; nothing without its key."""
    if not is_sealed(stored):
        return intact_prefix(stored).received
    try:
        plain = sealed_prefix(stored, vault.key(read_key_id(stored))).plain
    except NotFoundError:
        return b""
    return intact_prefix(plain).received


def call_of(stored: bytes) -> UUID:
    """Say to which call (or mailbox's stream) a recording belongs; CorruptionError for none."""
    return read_key_id(stored) if is_sealed(stored) else read_metadata(stored).call_id


def is_sound_of(message: MessageStored, sound: bytes, vault: Vault) -> bool:
    """Is this the sound that the message's event tells of?"""
    try:
        return digest_in_event(message, sound, vault) == message.audio.digest
    except NotFoundError:
        return False  # nobody can tell without the key


def digest_in_event(message: MessageStored, sound: bytes, vault: Vault) -> str:
    """Give what the event of a message like this one would hold for a sound."""
    digest = hashlib.sha256(sound).hexdigest()
    return vault.key(message.originator_id).keyed_digest(digest) if message.is_sealed else digest
