"""How it is told that a log went back in time: in ``vmledger servers`` and ``vmledger doctor``.

Source: claims 5 and 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from projections.servers import WentBack


def tell_went_back(found: WentBack) -> str:
    """Say in words what is missing, what came back from whom, and what nobody knows."""
    noticed = f"noticed {found.noticed_at:%Y-%m-%d %H:%M:%SZ} at position {found.position}"
    parts = [f"{noticed}: {found.reason}"]
    if found.known_until:
        parts.append(
            f"of positions {found.missing_after + 1} to {found.known_until} of the former "
            "incarnation some are missing"
        )
    back = [
        f"{one.peer} gave back {one.events} events ({one.messages} messages)"
        for one in found.recalls
        if one.events
    ]
    parts.append(", ".join(back) if back else "nothing came back")
    if found.not_taken:
        parts.append(f"{found.not_taken} were not taken: others stand in their places by now")
    if found.waiting_for:
        parts.append(f"not asked to the end yet: {', '.join(found.waiting_for)}")
    if found.lost_events:
        parts.append(f"up to {found.lost_events} events are known to nobody")
    return "; ".join(parts)


def read_went_back(document: object) -> WentBack:
    """Read what the HTTP API answers."""
    from projections.servers import WentBack  # noqa: PLC0415 - takes long to import

    return msgspec.convert(document, WentBack)
