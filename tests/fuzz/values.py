"""Good values that several targets begin with."""

from datetime import UTC, datetime
from uuid import UUID

from ledger.events import AudioFacts, Receipt

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RECEIPT = Receipt(
    origin="alpha",
    origin_incarnation=UUID(int=7),
    origin_position=3,
    origin_root="ab" * 32,
    home="bravo",
    home_incarnation=UUID(int=8),
    home_position=9,
    home_root="cd" * 32,
    safe_position=0,
    issued_at=NOW,
    signature="AAAA",
)
FACTS = AudioFacts(
    digest="ef" * 32,
    size_bytes=16_000,
    container="wav",
    codec="pcmu",
    sample_rate_hz=8000,
    channels=1,
    duration_ms=2000,
)
