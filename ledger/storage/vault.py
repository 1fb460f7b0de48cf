"""The keys of sealed messages, wrapped by the server's master key, in the database of its log.

They stand beside the log and not in it: the log is for ever, and a key has to be destroyable. A new
key is handed to the `Append` of the first event that it seals, so that neither is ever there
without the other, and no sync to disk is added; in the same way a key is destroyed by the commit of
the event that says who asked for it. What was destroyed stays noted, so that a late copy of a
message does not bring its key back.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias
from uuid import UUID

from ledger.errors import CallerError, CorruptionError, LedgerError, NotFoundError
from ledger.ids import RandomBytes
from ledger.sealing import MasterKey, MessageKey, WrappedKey, new_message_key
from ledger.storage.event_log import LogRecorder

FoundKey: TypeAlias = MessageKey | LedgerError | None
"""A key; why it cannot be opened (another master key wrapped it, or it is damaged); or None: it was
destroyed."""


class ErasedError(NotFoundError):
    """The key of what was asked for is destroyed: nobody can read it any more."""


class Vault:
    """Makes, finds and unwraps keys. Synchronous; for any thread."""

    def __init__(self, log: LogRecorder, master: MasterKey, random_bytes: RandomBytes) -> None:
        """Keep keys in the database of ``log``. ``random_bytes`` has to be fit for secrets."""
        self._log = log
        self._master = master
        self.random_bytes = random_bytes
        """Fit for secrets, and for the nonces of what is sealed with the keys made here."""

    def new_key(self, call_id: UUID) -> tuple[MessageKey, WrappedKey]:
        """Make the key of a call, and what has to be committed with the first event it seals."""
        key = new_message_key(call_id, self.random_bytes)
        return key, self.wrap(key)

    def wrap(self, key: MessageKey) -> WrappedKey:
        """Make a key that came from another server fit to be committed here."""
        return self._master.wrap(key, self.random_bytes)

    def destroy(self, call_ids: Iterable[UUID]) -> tuple[WrappedKey, ...]:
        """Give what has to be committed so that these keys are gone, were they ever here or not."""
        return tuple(WrappedKey(call_id, None) for call_id in call_ids)

    def find(self, call_ids: Iterable[UUID]) -> dict[UUID, FoundKey]:
        """Give what is here of the keys of these calls; unknown ones are left out."""
        found = self._log.read_keys(list(call_ids))
        return {call_id: self._open(key) for call_id, key in found.items()}

    def keys(self, call_ids: Iterable[UUID]) -> dict[UUID, MessageKey | None]:
        """Give the keys of these calls: None for one that was destroyed; unknown ones are left out.

        Raises CallerError when another master key wrapped one, CorruptionError when one is damaged.
        """
        keys: dict[UUID, MessageKey | None] = {}
        for call_id, key in self.find(call_ids).items():
            if isinstance(key, LedgerError):
                raise key
            keys[call_id] = key
        return keys

    def opens(self, key: WrappedKey) -> bool:
        """Is this key of any use: was it destroyed on purpose, or can it be unwrapped here?"""
        return not isinstance(self._open(key), LedgerError)

    def _open(self, key: WrappedKey) -> FoundKey:
        if key.wrapped is None:
            return None
        try:
            return self._master.unwrap(key)
        except (CallerError, CorruptionError) as error:
            return error

    def key(self, call_id: UUID) -> MessageKey:
        """Give the key of this call.

        Raises ErasedError when it was destroyed, NotFoundError when it was never here, and what
        `keys` raises.
        """
        found = self.keys([call_id])
        if call_id not in found:
            raise NotFoundError(f"the key of call {call_id} is not on this server")
        key = found[call_id]
        if key is None:
            raise ErasedError(f"call {call_id} was erased: its key is destroyed")
        return key
