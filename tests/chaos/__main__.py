"""Chaos on real processes: ``python -m tests.chaos [--minutes N] [--seed N]``."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run, tell


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="of load and faults")
    parser.add_argument("--seed", type=int, help="of faults and load; drawn when not given")
    parser.add_argument("--calls-per-s", type=float, default=4.0, help="calls, on average")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.randrange(1_000_000)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    print(f"seed {seed}, {asked.minutes:g} minutes, in {folder}", flush=True)
    report = run(folder, seed, asked.minutes, asked.calls_per_s)
    print(tell(report))
    if not report.failures:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
