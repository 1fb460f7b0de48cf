"""One server process a data directory."""

import os
import subprocess
import sys

import pytest

from ledger.errors import ConflictError
from vmledger.data_lock import DataLock

HOLD = (
    "import sys; from pathlib import Path; from vmledger.data_lock import DataLock;"
    "lock = DataLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


def test_a_second_holder_is_refused_and_told_who_the_first_is(tmp_path):
    with DataLock(tmp_path), pytest.raises(ConflictError, match=str(os.getpid())):
        DataLock(tmp_path)


def test_a_closed_lock_lets_the_next_one_in(tmp_path):
    DataLock(tmp_path).close()
    with DataLock(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(ConflictError, match=str(holder.pid)):
        DataLock(tmp_path)
    holder.kill()
    holder.communicate()
    with DataLock(tmp_path):
        pass
