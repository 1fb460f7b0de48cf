"""Runs the real program as a user would: another process, its output, its exit code."""

import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.support.warm import WarmProcess

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
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = WarmProcess(
                [*map(str, arguments)], stdout=out, stderr=err, env=env, cwd=self.folder
            )
            try:
                status = process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            ran = Ran(status, _all_of(out), _all_of(err))
        assert "Traceback" not in ran.err, ran.err
        assert code in (None, ran.code), f"exit code {ran.code}, not {code}\n{ran.out}\n{ran.err}"
        return ran


def _all_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
