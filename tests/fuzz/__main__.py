"""Run fuzzers, one target after the other: ``python -m tests.fuzz [TARGET …] [--minutes N]``.

What a fuzzer found interesting is kept under ``.fuzz``, so that the next run goes on from there. An
input that breaks a contract ends its target's run and lies in ``.fuzz/TARGET/found``: mend the
program, move the input to ``tests/fuzz/kept/TARGET`` under a name that says what was wrong, and run
again.
"""

from __future__ import annotations

import argparse
import logging
import re
import resource
import subprocess
import sys
from pathlib import Path

from tests.fuzz.target import Target, kept, load, names

PLACE = Path(".fuzz")
_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_INPUT_TIMEOUT_S = 60
_MEMORY_MB = 2048


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(names()))
    parser.add_argument("--minutes", type=float, default=10, help="for each target")
    asked = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())
    unknown = set(asked.targets) - set(names())
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    print("target | executions | minutes | minutes of CPU | found", flush=True)
    results = [fuzz(name, asked.minutes) for name in asked.targets or names()]
    return int(not all(results))


def fuzz(name: str, minutes: float) -> bool:
    """Fuzz one target; True when nothing was found."""
    target, place = load(name), PLACE / name
    arguments = prepare(name, target, place)
    log = place / "log"
    before_s = _children_s()
    with log.open("wb") as file:
        worker = [sys.executable, "-m", "tests.fuzz.worker", name]
        ended = subprocess.run(
            [*worker, *arguments, f"-max_total_time={round(minutes * 60)}"],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    executions = _EXECUTIONS.search(log.read_text(errors="replace"))
    found = "nothing" if ended.returncode == 0 else f"see {log}"
    count = executions[1] if executions else "?"
    cpu_minutes = (_children_s() - before_s) / 60
    print(f"{name} | {count} | {minutes:g} | {cpu_minutes:.1f} | {found}", flush=True)
    return ended.returncode == 0


def prepare(name: str, target: Target, place: Path) -> list[str]:
    """Write what the fuzzer begins with; give its arguments."""
    for folder in ("corpus", "seeds", "found"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (place / "seeds" / str(number)).write_bytes(seed)
    for file in kept(name):
        (place / "seeds" / file.name).write_bytes(file.read_bytes())
    words = place / "words"
    words.write_text("".join(f"{_quoted(word)}\n" for word in target.words))
    dictionary = [f"-dict={words}"] if target.words else []
    return [
        str(place / "corpus"),
        str(place / "seeds"),
        f"-artifact_prefix={place / 'found'}/",
        *dictionary,
        f"-max_len={target.max_bytes}",
        f"-timeout={_INPUT_TIMEOUT_S}",
        f"-rss_limit_mb={_MEMORY_MB}",
        "-print_final_stats=1",
    ]


def _quoted(word: str) -> str:
    """Write a word as dictionaries of libFuzzer do."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
