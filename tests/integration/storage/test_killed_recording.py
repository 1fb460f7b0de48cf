"""A process that is killed while it records loses at most what came after its last sync."""

import os
import signal
import subprocess
import sys
from uuid import UUID

import pytest

from ledger.storage.spool import Spool

CALL = UUID(int=9)

RECORDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID
from ledger.storage.spool import Spool
from ledger.storage.stored_form import RecordingMetadata

call = UUID(int=9)
now_s = [0.0]
spool = Spool(Path(sys.argv[1]), monotonic_s=lambda: now_s[0])
recording = spool.open(call, RecordingMetadata(
    call_id=call, server="alpha", started_at=datetime(2026, 1, 1, tzinfo=UTC)))
written = 0
while True:
    now_s[0] += 0.02
    recording.append(b"%08d" % (written // 8) * 20)
    written += 160
    sys.stdout.write(f"{written}\\n")
    sys.stdout.flush()
"""


def spoken(count):
    return b"".join(b"%08d" % (start // 8) * 20 for start in range(0, count, 160))


@pytest.mark.parametrize("kill_after_bytes", [160, 8_000, 33_600, 100_000])
def test_kill_costs_at_most_one_second(tmp_path, kill_after_bytes):
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDER, os.fspath(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        acknowledged = 0
        while acknowledged < kill_after_bytes:
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    whole_lines = rest[: rest.rfind("\n") + 1].split()
    acknowledged = int(whole_lines[-1]) if whole_lines else acknowledged
    (left,) = Spool(tmp_path).interrupted()
    assert process.returncode == -signal.SIGKILL
    assert left.call_id == CALL
    assert spoken(acknowledged + 1_600).startswith(left.received)
    assert len(left.received) >= acknowledged - 8_000
