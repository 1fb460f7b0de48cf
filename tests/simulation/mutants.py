"""Is the simulation blind? Deliberate faults in a copy of the program, each of which it must find.

``python -m tests.simulation.mutants`` applies one fault after the other to a copy of the code, runs
schedules until a checker objects, and writes ``docs/reliability-mutants.md``: for all of them the
schedules that are kept, then for those that are left the ones of seeds 0, 1, 2... A schedule that
fails without the fault as well does not count. A fault that nobody finds is a hole in the tests,
and makes it exit with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.simulation.kept import kept_paths

ROOT = Path(__file__).parents[2]
COPIED = ("ledger", "projections", "vmledger", "tests")
PAGE = ROOT / "docs" / "reliability-mutants.md"


@dataclass(frozen=True)
class Edit:
    """Some text of a file is replaced by other text."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A deliberate fault; it takes several edits where one defence stands behind another."""

    name: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Finding:
    """Who found a mutant."""

    schedule: str
    """``kept NAME`` or ``seed N``."""
    schedules: int
    """How many were run until then, this one too."""
    words: str
    """What the checker said, its name first."""


def _read(told: dict[str, Any]) -> Mutant:
    """Read one: with ``also`` a list of further edits."""
    name, also = told.pop("name"), told.pop("also", [])
    return Mutant(name, tuple(Edit(**edit) for edit in (told, *also)))


MUTANTS = tuple(
    _read(told)
    for told in tomllib.loads(Path(__file__).with_name("mutants.toml").read_text())["mutant"]
)


def apply(mutant: Mutant, root: Path) -> None:
    """Put the fault into a copy of the code; a text that is not there is an error."""
    for edit in mutant.edits:
        path = root / edit.file
        text = path.read_text()
        if text.count(edit.old) != 1:
            raise SystemExit(
                f"mutant {mutant.name!r} is stale: its text stands {text.count(edit.old)} times "
                f"in {edit.file}; write it anew"
            )
        path.write_text(text.replace(edit.old, edit.new))


def copy_code(source: Path, target: Path) -> None:
    """Copy what a mutant needs to run."""
    for name in COPIED:
        shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))


class Hunt:
    """Hunts mutants of one state of the code."""

    def __init__(self, healthy: Path) -> None:
        self._healthy = healthy
        self._fails_anyway: dict[int, bool] = {}
        """By the number of a schedule."""

    def find(self, mutant: Mutant, skip: int, most: int) -> Finding | None:
        """Run schedules with the fault until a checker objects; None when none does.

        ``skip`` were run before, and ``most`` is the number of the last one.
        """
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            copy_code(self._healthy, Path(folder))
            apply(mutant, Path(folder))
            done = skip
            while done < most:
                finding = _first_failure(Path(folder), done, most - done)
                if finding is None:
                    return None
                done = finding.schedules
                if not self._fails_without(done):
                    return finding
        return None

    def _fails_without(self, number: int) -> bool:
        if number not in self._fails_anyway:
            failure = _first_failure(self._healthy, number - 1, 1)
            self._fails_anyway[number] = failure is not None
        return self._fails_anyway[number]


def _first_failure(code: Path, skip: int, most: int) -> Finding | None:
    """Run schedules with the code in a folder until one fails."""
    command = [sys.executable, "-m", "tests.simulation", "--until-failure"]
    done = subprocess.run(
        [*command, f"--skip={skip}", f"--schedules={most}"],
        cwd=code,
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.strip().splitlines()[-1:]
    if done.returncode not in (0, 1) or not last:
        raise SystemExit(f"the code in {code} does not run: {done.stderr[-2000:]}")
    found = json.loads(last[0])
    return Finding(**found) if found else None


def write_page(found: dict[str, Finding | None]) -> None:
    """Write the table; what is not in ``found`` was not hunted to the end."""
    number = sum(finding is not None for finding in found.values())
    lines = [
        "# Deliberate faults",
        "",
        "Each row is a fault that was put into a copy of the program, to see whether",
        "the [simulation](reliability.md#is-it-blind) is blind. It runs what is kept, then the",
        "schedules of seeds 0, 1, 2 and so on, until a checker objects. `make mutants` hunts",
        f"them all and writes this page. It found {number} of {len(MUTANTS)}.",
        "",
        "| what is broken | in | found by | schedules needed | the checker that found it |",
        "|---|---|---|--:|---|",
    ]
    files = {m.name: ", ".join(dict.fromkeys(f"`{e.file}`" for e in m.edits)) for m in MUTANTS}
    for name, where in files.items():
        row = f"| {name} | {where} |"
        finding = found.get(name)
        if name not in found:
            lines.append(f"{row} not hunted to the end | | |")
        elif finding is None:
            lines.append(f"{row} **not found** | | |")
        else:
            checker = finding.words.partition(":")[0]
            lines.append(f"{row} {finding.schedule} | {finding.schedules} | {checker} |")
    PAGE.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("--schedules", type=int, default=8000, help="most for one mutant")
    parser.add_argument("--only", help="those whose name contains this")
    parser.add_argument(
        "--notes", type=Path, help="a file that remembers what was found: a hunt may go on later"
    )
    asked = parser.parse_args()
    notes = json.loads(asked.notes.read_text()) if asked.notes and asked.notes.exists() else {}
    found: dict[str, Finding | None] = {name: Finding(**told) for name, told in notes.items()}
    chosen = [m for m in MUTANTS if asked.only is None or asked.only in m.name]
    # First those schedules that are kept, for every fault: they find most in a moment.
    rounds = ((0, len(kept_paths())), (len(kept_paths()), asked.schedules))
    with tempfile.TemporaryDirectory(prefix="mutants-of-") as source:
        copy_code(ROOT, Path(source))  # whoever edits the code meanwhile does not disturb
        hunt = Hunt(Path(source))
        for skip, most in rounds:
            for mutant in chosen:
                if found.get(mutant.name) is not None:
                    continue
                finding = found[mutant.name] = hunt.find(mutant, skip, most)
                if finding is not None:
                    print(f"{mutant.name:60} {finding.schedule}: {finding.words[:110]}", flush=True)
                elif most == asked.schedules:
                    print(f"{mutant.name:60} NOT FOUND", flush=True)
                if asked.notes:
                    known = {name: asdict(one) for name, one in found.items() if one is not None}
                    asked.notes.write_text(json.dumps(known, indent=1))
    if asked.only is None:
        write_page({mutant.name: found[mutant.name] for mutant in MUTANTS})
    survivors = [mutant.name for mutant in chosen if found[mutant.name] is None]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} found")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
