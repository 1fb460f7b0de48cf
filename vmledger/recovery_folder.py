"""Whether a recovery of a lost server was begun and is not finished.

The file ``recovery/incarnation`` in the data directory stands from its beginning to its end. While
it is there no server starts.

Source: claims 5, 8 and 10.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import UUID

from ledger.errors import ConflictError, CorruptionError
from ledger.storage.files import Files, SystemFiles, write_durably
from ledger.storage.log_copy import CheckpointFile

RECOVERY: Final = "recovery"
_NEW_INCARNATION: Final = "incarnation"


def expect_recovered(data: Path) -> None:
    """Raise ConflictError when a recovery into this data directory was begun and not finished."""
    if RecoveryFolder(data).is_open:
        raise ConflictError(
            f"a recovery into {data} is not finished; run 'vmledger recover' again, which goes on "
            "where it ended"
        )


class RecoveryFolder:
    """What a recovery keeps until it is finished: ``recovery`` in the data directory.

    The file ``incarnation`` in it says that the recovery is not finished, and what the server will
    go on under.
    """

    def __init__(self, data: Path, files: Files | None = None) -> None:
        self._path = data / RECOVERY
        self._file = self._path / _NEW_INCARNATION
        self._files = files or SystemFiles()
        self.checkpoint = CheckpointFile(self._path, self._files)

    @property
    def is_open(self) -> bool:
        """Is a recovery begun and not finished?"""
        return self._files.exists(self._file)

    def begin(self, new: UUID) -> UUID:
        """Begin, durable on return; gives the incarnation of the first time when it is open.

        Raises CorruptionError when it is open and does not say which that was.
        """
        if self.is_open:
            return self._read()
        self._files.make_directory(self._path)
        # A crash before this leaves empty stores and no recovery; after it, the next run goes on.
        write_durably(self._files, self._file, f"{new}\n".encode("ascii"))
        return new

    def _read(self) -> UUID:
        try:
            return UUID(self._files.read(self._file).decode("ascii").strip())
        except ValueError as error:
            raise CorruptionError(
                "it cannot be read under which incarnation the server was to go on",
                place=str(self._file),
                advice="empty the stores, remove this file and recover once more",
            ) from error

    def finish(self) -> None:
        """End it; durable on return. What is in the folder without that file means nothing."""
        self._files.remove(self._file)
        # A crash before this may leave the recovery open: the next run finds it done, and ends it.
        self._files.sync_directory(self._path)
        for file in list(self._files.list(self._path)):
            self._files.remove(file.path)
