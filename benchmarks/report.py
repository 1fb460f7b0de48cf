"""How every benchmark says what it measured: a line for people, then one of JSON for machines."""

from __future__ import annotations

import json


def report(
    benchmark: str, value: float, unit: str, baseline: str, baseline_value: float, goal: float
) -> None:
    """Print one figure beside the named baseline that was measured in the same run.

    ``ratio`` is value / baseline_value; whether more or less is better follows from the unit, and
    ``goal`` is stated in the terms that the benchmark's own docstring gives.
    """
    ratio = value / baseline_value if baseline_value else float("inf")
    print(
        f"{benchmark}: {value:,.4g} {unit} beside {baseline_value:,.4g} {unit} of {baseline}: "
        f"{ratio:.3g} times, goal {goal:g}"
    )
    figure = {
        "benchmark": benchmark,
        "value": value,
        "unit": unit,
        "baseline": baseline,
        "baseline_value": baseline_value,
        "ratio": round(ratio, 4),
        "goal": goal,
    }
    print(json.dumps(figure), flush=True)
