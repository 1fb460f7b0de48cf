"""Runs the real program as a user would: another process, its output, its exit code."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "vmledger"]
TIMEOUT_S = 60


def environment() -> dict[str, str]:
    """Nothing of the developer's own servers, and no colours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("VMLEDGER_")}
    return kept | {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as one JSON document."""
        return json.loads(self.out)


@dataclass(frozen=True)
class CommandLine:
    """Runs commands in a folder."""

    folder: Path
    config: Path | None = None

    def __call__(self, *arguments: object, code: int | None = 0, **variables: str) -> Ran:
        """Run a command, and expect that exit code; None: any."""
        env = environment() | variables
        if self.config is not None:
            env["VMLEDGER_CONFIG"] = str(self.config)
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            cwd=self.folder,
            env=env,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in ran.err, ran.err
        assert code in (None, ran.code), f"exit code {ran.code}, not {code}\n{ran.out}\n{ran.err}"
        return ran
