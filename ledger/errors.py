"""The four kinds of error, by who must act.

`CallerError`: fix the call. `PeerError`: the other server broke the protocol. `TransientError`:
try again, and when. `CorruptionError`: stop, and what the operator should do. Adapters translate
their drivers' errors into these with ``raise … from``; nothing else crosses a port.

Source: claim 14 (common functions).
"""

from __future__ import annotations

from typing import Any


class LedgerError(Exception):
    """Base of all errors raised here on purpose. The text is one sentence for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross to another process with all that the error carries."""
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(
    kind: type[LedgerError], args: tuple[Any, ...], carries: dict[str, Any]
) -> LedgerError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(carries)
    return error


class CallerError(LedgerError):
    """The request cannot be carried out as it stands; the same request will fail again."""


class NotFoundError(CallerError):
    """The thing that the request names is not here."""


class ConflictError(CallerError):
    """The request contradicts what is already recorded (a stale version, a second recording)."""


class PeerError(LedgerError):
    """Another server sent what the protocol does not allow. Carries who it was."""

    def __init__(self, message: str, *, peer: str) -> None:
        super().__init__(message)
        self.peer = peer


class TransientError(LedgerError):
    """It did not work now and may work later. Nothing was changed unless the raiser says so."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NoRoomError(TransientError):
    """The disk is full, or so nearly that what can wait has to. The operator must make room."""


class CorruptionError(LedgerError):
    """What is stored is not what was stored. Never retried, never repaired silently."""

    def __init__(
        self, message: str, *, place: str, expected: str = "", found: str = "", advice: str = ""
    ) -> None:
        super().__init__(f"{message} (at {place})" + (f"; {advice}" if advice else ""))
        self.place = place
        """Where: a file, or a position in the log."""
        self.expected = expected
        """The digest or value that should be there; empty where that is not known."""
        self.found = found
        """The digest or value that is there."""
        self.advice = advice
        """What the operator should do."""
