"""Stored events for tests of the log: small, and each with a content of its own."""

from uuid import UUID

from eventsourcing.persistence import StoredEvent


def stream_id(number: int) -> UUID:
    """Name a stream by a small number."""
    return UUID(int=number)


def stored_event(stream: int, version: int, content: str = "") -> StoredEvent:
    """Make the event of that place."""
    state = f'{{"stream":{stream},"version":{version},"content":"{content}"}}'.encode()
    return StoredEvent(stream_id(stream), version, "test-event", state)


def stored_events(stream: int, versions: range) -> list[StoredEvent]:
    """Make a run of events of one stream."""
    return [stored_event(stream, version) for version in versions]
