"""What the benchmarks measure on is what a server has."""

from benchmarks.verify import fill
from ledger.storage.memory import MemoryLogRecorder
from vmledger.verification import verify_log


def test_log_that_verifying_is_measured_on_is_intact():
    log = MemoryLogRecorder()
    fill(log, 2000)
    found = verify_log(log)
    assert found.is_intact, found.findings[:3]
    assert found.position >= 2000
