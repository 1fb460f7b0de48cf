"""Opens who called, for whoever is to be shown it: with the keys that are here at that moment.

What cannot be opened is said to be so, in one of three ways (`CallerState`), and never raised: a
mailbox must be readable when one key of it is gone, or was never here, or when another server sent
bytes that nothing opens.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol
from uuid import UUID

from ledger.caller import CallerState, SeenCaller, open_caller
from ledger.errors import CorruptionError, LedgerError
from ledger.events import AnyCaller, Caller, Sealed
from ledger.sealing import MessageKey
from ledger.storage.vault import FoundKey

_ERASED: Final = SeenCaller(state=CallerState.ERASED)
_SEALED: Final = SeenCaller(state=CallerState.SEALED)
_DAMAGED: Final = SeenCaller(state=CallerState.DAMAGED)


class Keys(Protocol):
    """Finds keys: a `ledger.storage.vault.Vault`."""

    def find(self, call_ids: Iterable[UUID]) -> dict[UUID, FoundKey]:
        """Give those that are here; None for one that was destroyed."""


class Callers:
    """Opens who called. Synchronous, reads the database; for any thread."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def see(self, callers: Iterable[tuple[UUID, AnyCaller | None]]) -> list[SeenCaller]:
        """Say who made each of these calls, in their order; their keys are fetched in one query.

        None is a call of which nobody told who made it: known, and withheld. Raises TransientError
        when the keys cannot be read now.
        """
        asked = list(callers)
        sealed = {call_id for call_id, caller in asked if isinstance(caller, str)}
        keys = self._keys.find(sealed) if sealed else {}
        return [_see(call_id, caller, keys) for call_id, caller in asked]

    def see_one(self, call_id: UUID, caller: AnyCaller | None) -> SeenCaller:
        """Say who made this call."""
        return self.see([(call_id, caller)])[0]


def _see(call_id: UUID, caller: AnyCaller | None, keys: Mapping[UUID, FoundKey]) -> SeenCaller:
    if not isinstance(caller, str):
        return SeenCaller(state=CallerState.KNOWN, caller=caller or Caller())
    if call_id not in keys:
        return _SEALED
    key = keys[call_id]
    return _ERASED if key is None else _opened(caller, key)


def _opened(caller: Sealed, key: MessageKey | LedgerError) -> SeenCaller:
    if isinstance(key, LedgerError):
        return _DAMAGED
    try:
        return SeenCaller(state=CallerState.KNOWN, caller=open_caller(caller, key))
    except CorruptionError:
        return _DAMAGED
