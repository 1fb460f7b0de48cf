"""Who called: sealed when the call is recorded, opened when somebody is shown it.

The events hold who called as bytes that only the call's key opens. What is kept of them elsewhere
(read models, copies, exports of the log) holds the same bytes, so that destroying the key takes the
caller out of all of it at once, and a replay never depends on which keys are still there.

Pure: the key and the random bytes come in as arguments.

Source: claim 12 (what the switch knows of a call); `ledger.sealing` for the form.
"""

from __future__ import annotations

import base64
from enum import Enum
from typing import Any, Final

import msgspec

from ledger.base64_text import decode_base64
from ledger.errors import CorruptionError
from ledger.events import Caller, Sealed
from ledger.ids import RandomBytes
from ledger.sealing import MessageKey

PURPOSE: Final = "call-received caller"
"""What the sealed bytes are said to be: they open nowhere else."""
PADDED_BYTES: Final = 64
"""The sealed text is filled up to a multiple of this: else its length would tell, also of an erased
call, whether there was a name and how long it was."""


class CallerState(Enum):
    """Why it is known who called, or not. Stable words: they are shown."""

    KNOWN = "known"
    """The switch's word; a number that is absent was withheld."""
    ERASED = "erased"
    """The key was destroyed: nobody can know it any more."""
    SEALED = "sealed"
    """This server has not got the key; another one may have it."""
    DAMAGED = "damaged"
    """The key does not open it, or is damaged itself: verify the log."""


class SeenCaller(msgspec.Struct, frozen=True, kw_only=True):
    """Who called, as far as this server can say."""

    state: CallerState
    caller: Caller = Caller()
    """Empty unless known."""

    def columns(self) -> dict[str, Any]:
        """Give it as views and tables name it."""
        return {
            "caller_state": self.state,
            "caller_number": self.caller.number,
            "caller_name": self.caller.name,
            "redirecting_number": self.caller.redirecting_number,
        }


def seal_caller(caller: Caller, key: MessageKey, random_bytes: RandomBytes) -> Sealed:
    """Seal who called, for the call's own event."""
    plain = msgspec.json.encode(caller)
    padded = plain.ljust(-(-len(plain) // PADDED_BYTES) * PADDED_BYTES)
    return base64.b64encode(key.seal(padded, PURPOSE, random_bytes)).decode("ascii")


def open_caller(sealed: Sealed, key: MessageKey) -> Caller:
    """Give who called; raises CorruptionError when the key does not open it."""
    try:
        plain = key.open(decode_base64(sealed), PURPOSE)
        return msgspec.json.decode(plain, type=Caller)
    except (ValueError, UnicodeDecodeError) as error:
        raise CorruptionError(
            f"the {PURPOSE} is not as it was sealed: {error}",
            place=f"call {key.key_id}",
            advice="compare with another server that holds this call",
        ) from error
