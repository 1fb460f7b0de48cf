"""Run every benchmark, or one, and keep the figures.

``python -m benchmarks [NAME] [--full]`` runs ``benchmarks/*.py`` one after the other (two at once
would measure each other), shows what they print, and writes each JSON line that they end with to
``benchmarks/results.json``. ``--full`` is handed on to those that know it. Exit status 1 when one
of them failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
BY_NAME = {"drain"}
"""Take too long to be run with all others."""


def runnable() -> list[str]:
    """Names of the benchmarks: the modules beside this one that report a figure."""
    modules = sorted(path for path in HERE.glob("*.py") if path.name != "__main__.py")
    texts = {path.stem: path.read_text() for path in modules}
    return [
        name
        for name, text in texts.items()
        if '__name__ == "__main__"' in text and "benchmarks.report" in text
    ]


def run(name: str, *, full: bool) -> tuple[bool, list[dict[str, Any]]]:
    """Run one benchmark and give whether it succeeded, and its figures."""
    print(f"\n== {name}", flush=True)
    source = (HERE / f"{name}.py").read_text()
    options = ["--full"] if full and '"--full"' in source else []
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    figures = []
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            figures += figure_in(line)
    if process.returncode != 0:
        print(f"== {name} FAILED with exit status {process.returncode}", flush=True)
    return process.returncode == 0, figures


def figure_in(line: str) -> list[dict[str, Any]]:
    """Give the figure that a line of output holds: one or none."""
    if not line.startswith('{"benchmark"'):
        return []
    return [json.loads(line)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "name", nargs="?", choices=runnable(), help="default: all but " + ", ".join(BY_NAME)
    )
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    names = [arguments.name] if arguments.name else [n for n in runnable() if n not in BY_NAME]
    outcomes = {name: run(name, full=arguments.full) for name in names}
    results = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "figures": [figure for _, figures in outcomes.values() for figure in figures],
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    failed = [name for name, (succeeded, _) in outcomes.items() if not succeeded]
    print(f"\n{len(results['figures'])} figures written to {RESULTS.relative_to(Path.cwd())}")
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
