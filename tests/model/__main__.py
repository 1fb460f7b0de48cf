"""Explore the large bounds: ``python -m tests.model``. Takes some minutes."""

from __future__ import annotations

import sys

from tests.model.explore import explore
from tests.model.servers import Bounds, Rules

BOUNDS = {
    "three messages, two crashes, one loss, one repeat": Bounds(losses=1),
    "three messages, two crashes, two losses, one repeat": Bounds(),
    "the same, two messages, the home is restored once": Bounds(
        messages=2, crashes=1, restores_home=1
    ),
    "the same, two messages, the origin is restored once": Bounds(
        messages=2, crashes=1, restores_origin=1
    ),
    "three messages, one loss, both are restored once": Bounds(
        crashes=0, losses=1, repeats=0, restores_home=1, restores_origin=1
    ),
}


def main() -> int:
    has_failed = False
    for name, bounds in BOUNDS.items():
        print(f"{name}:", flush=True)
        found = explore(Rules(), bounds)
        print(f"  {found.tell()}", flush=True)
        has_failed |= bool(found.problem)
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
