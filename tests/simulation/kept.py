"""Schedules that once failed, kept whole: what a seed means may change, what they say does not.

Each is a JSON file in ``tests/simulation/kept``: what it found, and every step with its moment.
``python -m tests.simulation --seed N --keep NAME`` writes one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tests.simulation import faults
from tests.simulation.faults import Step
from tests.simulation.schedules import Schedule

FOLDER = Path(__file__).with_name("kept")


def keep(name: str, found: str, schedule: Schedule) -> Path:
    """Write a schedule down, with a word on what it found."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    told = {"found": found, **_builtins(schedule)}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    return path


def read_kept(path: Path) -> Schedule:
    """Read a schedule that was kept."""
    told = msgspec.json.decode(path.read_bytes())
    del told["found"]
    steps = tuple(_step(step) for step in told.pop("steps"))
    told["mirrors"] = tuple(tuple(pair) for pair in told.get("mirrors", ()))
    return Schedule(steps=steps, **told)


def kept_paths() -> list[Path]:
    """Give the files of all schedules that are kept."""
    return sorted(FOLDER.glob("*.json"))


def _builtins(schedule: Schedule) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(schedule)
    told["steps"] = [
        {"step": type(step).__name__, **msgspec.to_builtins(step)}
        for step in sorted(schedule.steps, key=lambda one: one.at_s)
    ]
    return told


def _step(told: dict[str, Any]) -> Step:
    kind = getattr(faults, told.pop("step"))
    step: Step = msgspec.convert(told, kind)
    return step
