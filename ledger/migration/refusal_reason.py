"""Why a home does not take a message.

Source: claim 7.
"""

from __future__ import annotations

from typing import Final


class RefusalReason:
    """Stable words: they are stored in `MigrationRefused` and shown to operators."""

    NOT_MY_MAILBOX: Final = "not-my-mailbox"
    """The configuration there names another home."""
    NOT_ITS_MAILBOX: Final = "not-its-mailbox"
    """A mailbox's own events, from a server that is not its home."""
    BAD_EVENTS: Final = "bad-events"
    """The events break their own rules, or those of their stream."""
    BAD_AUDIO: Final = "bad-audio"
    """The recording is not what its event says."""
    UNKNOWN_TOPIC: Final = "unknown-topic"
    """The event that says what to do is of a newer program."""
    FORBIDDEN_TOPIC: Final = "forbidden-topic"
    """An event that no other server may record."""
    CONFLICT: Final = "conflict"
    """Another event stands at that place of the stream already."""
    AUDIO_MISSING: Final = "audio-missing"
    """The recording is not in the origin's store, and not at the home."""
    AUDIO_CORRUPT: Final = "audio-corrupt"
    """The recording in the origin's store is not what it was."""
    KEY_MISSING: Final = "key-missing"
    """What the origin sent is sealed, and neither of the two has its key."""
    KEY_DESTROYED: Final = "key-destroyed"
    """The home destroyed the key of the call, and this message of it is new there."""
    STILL_NEEDED: Final = "still-needed"
    """A call is to be erased, and a message of it that is not erased waits there."""
    REJECTED: Final = "rejected"
    """The peer cannot bear the message, and cannot say why."""
    TOO_LARGE: Final = "too-large"
    """Larger than a message between servers may be."""
