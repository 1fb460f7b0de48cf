"""What can be wrong with audio that a switch hands over.

All of them are the caller's: the same bytes will fail again. None of them means that the bytes are
thrown away; who takes the recording sets it aside and fills in ``place``.

Source: claim 11 (audio encoding/decoding module).
"""

from __future__ import annotations

from ledger.errors import CallerError


class AudioError(CallerError):
    """These bytes cannot become a message."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.place: str | None = None
        """Where the bytes were set aside, once they are."""


class EmptyAudioError(AudioError):
    """There is no sound in it at all."""


class BrokenAudioError(AudioError):
    """The bytes break the rules of their own format."""


class TruncatedAudioError(BrokenAudioError):
    """The bytes end before the end that they declare."""


class TooShortError(AudioError):
    """Shorter than the least that counts as a message here."""


class TooLongError(AudioError):
    """Longer than the most that is taken here."""


class UnsupportedAudioError(AudioError):
    """A format that nothing here can read, or none that can be recognised."""


class ContradictoryTypeError(AudioError):
    """The declared type says one thing and the bytes another."""


class NotAcceptableError(CallerError):
    """Nothing that can be made of the recording is what the listener accepts."""
