"""A log to recover from that lies somewhere without a server: a copy, a backup, an archive.

Source: claims 5, 8 and 10.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ledger.errors import CorruptionError, LedgerError, PeerError
from ledger.events import ServerId
from ledger.migration.log_reading import kept_word, read_blobs, read_kept_state, read_page
from ledger.migration.wire import Blobs, LogPage, LogPageRequest, LogState, LogStateRequest
from ledger.offload import Offload
from ledger.storage.log_copy import LogCopy
from vmledger.archive import unpack
from vmledger.archive_place import is_archive, is_bucket, open_place


class CopySource:
    """A `LogSource` without a server: a mirror's directory, a backup, or an archive."""

    def __init__(
        self, name: str, copy: LogCopy, servers: Iterable[ServerId], offload: Offload
    ) -> None:
        self.name = name
        self._copy = copy
        self._servers = tuple(servers)
        self._offload = offload

    async def log_state(self, request: LogStateRequest) -> LogState:
        copy = self._copy
        state = await self._offload(
            lambda: read_kept_state(request.of, copy.recorder, copy.name, copy.checkpoint)
        )
        return LogState(copies=(state,))

    async def log_page(self, request: LogPageRequest) -> LogPage:
        copy = self._copy
        vouch = kept_word(copy.checkpoint)
        try:
            return await self._offload(
                lambda: read_page(
                    copy.recorder, request, vouch, origins=self._servers, cosigned=copy.cosigned
                )
            )
        except CorruptionError as error:
            # It is the source that is damaged, and not what is recovered into.
            raise PeerError(f"{self.name} is damaged: {error}", peer=self.name) from error

    async def blobs(self, of: ServerId, digests: Sequence[str]) -> Blobs:  # noqa: ARG002 - the port
        place = (self._copy.recorder, self._copy.blobs)
        return await self._offload(lambda: read_blobs(digests, [place]))


class BrokenSource:
    """A `LogSource` that cannot be read: it says why, and the recovery goes on with the others."""

    def __init__(self, name: str, problem: LedgerError) -> None:
        self.name = name
        self._problem = problem

    async def log_state(self, request: LogStateRequest) -> LogState:  # noqa: ARG002 - the port
        raise self._problem

    async def log_page(self, request: LogPageRequest) -> LogPage:  # noqa: ARG002 - the port
        raise self._problem

    async def blobs(self, of: ServerId, digests: Sequence[str]) -> Blobs:  # noqa: ARG002 - the port
        raise self._problem


@contextmanager
def open_copy(name: str) -> Iterator[LogCopy]:
    """Open a directory, or the archive in a bucket; an archive is unpacked first.

    Raises NotFoundError where there is no log, CorruptionError for a damaged archive,
    TransientError for a bucket that cannot be read now.
    """
    with ExitStack() as stack:
        if holds_archive(name):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vmledger-archive-"))
            copy = unpack(open_place(name), Path(folder))
        else:
            copy = LogCopy(Path(name))
        stack.callback(copy.close)
        yield copy


def open_again(name: str, directory: Path) -> LogCopy:
    """Open what another process has opened by `open_copy`, which has it in this directory."""
    return LogCopy(directory, blobs=open_place(name).blobs if holds_archive(name) else None)


def holds_archive(name: str) -> bool:
    """Is this the name of an archive, and not that of a directory with a copy?"""
    return is_bucket(name) or is_archive(Path(name))
