"""Is the simulation blind? Deliberate faults in a copy of the program, each of which it must find.

``python -m tests.simulation.mutants`` applies one fault after the other to a copy of the code,
runs schedules until a checker objects, and writes ``docs/reliability-mutants.md``. A fault that
nobody finds is a hole in the tests, and makes it exit with 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("ledger", "projections", "tests")
PAGE = ROOT / "docs" / "reliability-mutants.md"


@dataclass(frozen=True)
class Mutant:
    """A deliberate fault: some text of a file is replaced by other text."""

    name: str
    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Finding:
    """Who found a mutant."""

    seed: int
    schedules: int
    words: str


MUTANTS = tuple(
    Mutant(**mutant)
    for mutant in tomllib.loads(Path(__file__).with_name("mutants.toml").read_text())["mutant"]
)


def apply(mutant: Mutant, root: Path) -> None:
    """Put the fault into a copy of the code; a text that is not there is an error."""
    path = root / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(
            f"mutant {mutant.name!r} is stale: its text stands {text.count(mutant.old)} times "
            f"in {mutant.file}; write it anew"
        )
    path.write_text(text.replace(mutant.old, mutant.new))


def copy_code(source: Path, target: Path) -> None:
    """Copy what a mutant needs to run."""
    for name in COPIED:
        shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))


def hunt(mutant: Mutant | None, source: Path, most: int) -> Finding | None:
    """Run the mutant (None: the program as it is) until a checker objects; None when none does."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy_code(source, Path(folder))
        if mutant is not None:
            apply(mutant, Path(folder))
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--until-failure", f"--schedules={most}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
    last = done.stdout.strip().splitlines()[-1:]
    if done.returncode not in (0, 1) or not last:
        raise SystemExit(f"{mutant} does not run: {done.stderr[-2000:]}")
    found = json.loads(last[0])
    return Finding(**found) if found else None


def write_page(found: dict[str, Finding | None]) -> None:
    """Write the table."""
    lines = [
        "# Deliberate faults",
        "",
        "Each row is a fault put into a copy of the program. The simulation runs schedule after",
        "schedule, from seed 0 on, until a checker objects. `python -m tests.simulation.mutants`",
        "runs them all and writes this page.",
        "",
        "| fault | found after | by the checker |",
        "|---|---|---|",
    ]
    for name, finding in found.items():
        if finding is None:
            lines.append(f"| {name} | **not found** | |")
        else:
            checker = finding.words.partition(":")[0]
            lines.append(f"| {name} | {finding.schedules} schedules | {checker} |")
    PAGE.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("--schedules", type=int, default=4000, help="most for one mutant")
    parser.add_argument("--only", help="those whose name contains this")
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if asked.only is None or asked.only in m.name]
    found: dict[str, Finding | None] = {}
    with tempfile.TemporaryDirectory(prefix="mutants-of-") as source:
        copy_code(ROOT, Path(source))  # whoever edits the code meanwhile does not disturb
        if (wrong := hunt(None, Path(source), asked.schedules)) is not None:
            raise SystemExit(f"the program fails as it is, mend that first: {wrong}")
        for mutant in chosen:
            finding = found[mutant.name] = hunt(mutant, Path(source), asked.schedules)
            told = f"seed {finding.seed}: {finding.words[:110]}" if finding else "NOT FOUND"
            print(f"{mutant.name:60} {told}", flush=True)
    if asked.only is None:
        write_page(found)
    survivors = [name for name, finding in found.items() if finding is None]
    print(f"{len(found) - len(survivors)} of {len(found)} found")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
