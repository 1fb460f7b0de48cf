"""Events and recordings as they lie on disk and come from others: JSON, and the stored form.

An input that begins with a brace is an event; anything else is a stored form, and an event as it
lies in the database. Only CorruptionError may come out. What was read is written to the same; of a
recording that is cut, a beginning is read, and of one that is whole, all.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from ledger import events
from ledger.errors import CorruptionError
from ledger.storage import compression, stored_form
from tests.fuzz.target import Target
from tests.fuzz.values import NOW

GOLDEN = Path(__file__).parents[2] / "golden" / "events"
MOST_BYTES = 1 << 20
METADATA = stored_form.RecordingMetadata(
    call_id=UUID(int=7), server="alpha", started_at=NOW, content_type="audio/PCMU"
)


def seeds() -> list[bytes]:
    written = [file.read_bytes().strip() for file in sorted(GOLDEN.glob("*.json"))]
    unknown = written[0].replace(b'"v":1', b'"v":99')
    recordings = [
        stored_form.encode(bytes(n % 256 for n in range(size)), METADATA) for size in (0, 9, 900)
    ]
    return [*written, unknown, *recordings, compression.compress(written[0])]


def run(data: bytes) -> bool:
    readers = (_event,) if data.startswith(b"{") else (_recording, _at_rest)
    return sum(_is_read(reader, data) for reader in readers) > 0  # each of them is tried


def _is_read(reader, data: bytes) -> bool:
    try:
        reader(data)
    except CorruptionError as error:
        assert "here" in error.place
        return False
    return True


def _event(data: bytes) -> None:
    event = events.decode(data, "here")
    plain = events.encode(event)
    if isinstance(event, events.OpaqueEvent):
        assert plain == data
    else:
        assert events.encode(events.decode(plain, "again")) == plain


def _recording(data: bytes) -> None:
    prefix = stored_form.intact_prefix(data, max_bytes=MOST_BYTES)
    assert 0 <= prefix.length_bytes <= len(data)
    if prefix.length_bytes:
        whole = data[: prefix.length_bytes]
        assert stored_form.decode(whole, max_bytes=MOST_BYTES, place="again") == prefix.received
    received = stored_form.decode(data, max_bytes=MOST_BYTES, place="here")
    assert prefix == (received, len(data))
    again = stored_form.encode(received, stored_form.read_metadata(data, place="here"))
    assert stored_form.decode(again, place="again") == received


def _at_rest(data: bytes) -> None:
    plain = compression.decompress(data, "here")
    assert compression.decompress(compression.compress(plain), "again") == plain


TARGET = Target(run, seeds, is_document=True)
