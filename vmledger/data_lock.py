"""One server process a data directory: a second one is refused, not left to corrupt the first.

The lock is the kernel's and ends with the process, however that ends; the file stays and only
names the holder for people.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ledger.errors import ConflictError

LOCK_FILE: Final = "serve.lock"


class DataLock:
    """Holds the data directory from its making until `close`.

    Raises ConflictError when another process holds it.
    """

    def __init__(self, data_dir: Path) -> None:
        path = data_dir / LOCK_FILE
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise ConflictError(
                f"another vmledger server (process {holder or 'unknown'}) already serves "
                f"{data_dir}; stop it first, or give this one its own data directory"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let another process serve the directory."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
