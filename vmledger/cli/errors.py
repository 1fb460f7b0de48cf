"""What an error means for the exit code of the program."""

from __future__ import annotations

from ledger.errors import CallerError, ConflictError, LedgerError, NotFoundError

NEGATIVE = 1
"""The question was fine; the answer is that something is missing, damaged or refused."""
USAGE = 2
"""The question itself is wrong: an argument, the configuration or the token must change."""


class ServerAwayError(LedgerError):
    """No server answers where one should."""


def exit_code_of(error: LedgerError) -> int:
    """Give the exit code for an error."""
    if isinstance(error, NotFoundError | ConflictError):
        return NEGATIVE
    return USAGE if isinstance(error, CallerError) else NEGATIVE
