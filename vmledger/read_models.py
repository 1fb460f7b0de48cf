"""The read models of one server: the thread that keeps them, and what only they and the log know.

Everything in their store can be made again from the log, so whatever is wrong with it never keeps
the server from taking calls.
"""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from ledger.clock import Clock
from ledger.configuration import Configuration
from ledger.errors import CorruptionError, NoRoomError, NotFoundError, TransientError
from ledger.ids import MailboxAddress
from ledger.storage.disk_room import DiskRoom
from ledger.storage.event_log import LogHead
from projections.builds import BuildState
from projections.calls import CALLS
from projections.mailboxes import MAILBOXES, MailboxEntry, Mailboxes, MailboxPage, PageKey
from projections.pending import PENDING
from projections.profiles import PROFILES
from projections.projection import Projection
from projections.reader import LogReader
from projections.runner import ProjectionRunner, ProjectionStatus
from projections.servers import SERVERS
from projections.store import DamagedStoreError, ProjectionStore
from projections.time_travel import mailbox_at, position_at

_LOG: Final = logging.getLogger(__name__)

ALL: Final[tuple[Projection, ...]] = (MAILBOXES, PENDING, CALLS, SERVERS, PROFILES)
_FIRST_BUILD_S: Final = 5.0


def open_for_serving(
    config: Configuration, reader: LogReader, clock: Clock, room: DiskRoom
) -> ReadModels:
    """Open the read models of a server that holds its data directory's lock.

    A damaged file is set aside and made anew from the log.
    """
    try:
        return ReadModels(config, reader, clock, room)
    except DamagedStoreError as error:
        file = Path(str(sa.make_url(config.stores.projections).database))
        aside = file.with_name(f"{file.name}.damaged")
        _LOG.error("action=read-models-damaged error=%s set_aside=%s", error.message, aside)
        # Without its journals: they belong to the damaged file, and would damage the new one. A
        # crash here leaves no file, or the damaged one: the next start does the rest.
        for journal in ("-wal", "-shm"):
            file.with_name(file.name + journal).unlink(missing_ok=True)
        file.replace(aside)
        return ReadModels(config, reader, clock, room)


class ReadModels:
    """All read models of one server. Methods may be called from any thread.

    ``reader`` must stay open until `close` has returned.
    """

    def __init__(
        self, config: Configuration, reader: LogReader, clock: Clock, room: DiskRoom
    ) -> None:
        self.store = ProjectionStore(config.stores.projections, config.server)
        self._server = config.server
        self._reader = reader
        self._mailboxes = Mailboxes(self.store)
        self.runner = ProjectionRunner(
            reader, self.store, ALL, clock=clock, may_build=room.is_open_for_bulk
        )

    def start(self) -> None:
        """Start the thread; returns when the first answers can be given, or after some seconds.

        After a long time without the server, or with a new version of a projection, the rest
        follows while it serves.
        """
        self.runner.start()
        self.runner.wait_for(0, _FIRST_BUILD_S)

    def log_grew(self, head: LogHead) -> None:
        """Wake the thread; called after each commit, from any thread."""
        self.runner.notify(head.position)

    def wait_for(self, position: int, timeout_s: float) -> bool:
        """Wait until every answer includes the log up to there; False when time ran out."""
        return self.runner.wait_for(position, timeout_s)

    def mailbox_then(
        self,
        mailbox: MailboxAddress,
        moment: int | datetime,
        *,
        before: PageKey | None,
        limit: int,
    ) -> MailboxPage:
        """Replay a mailbox as it was at a position or a time; a future one is as of now."""
        head = self._reader.head().position
        position = (
            moment if isinstance(moment, int) else position_at(self._reader, self._server, moment)
        )
        position = min(position, head)
        streams = self._mailboxes.streams(str(mailbox), position)
        then = mailbox_at(self._reader, self._server, str(mailbox), position, streams)
        return then.page(before=before, limit=limit)

    def find_message(self, message_id: UUID) -> MailboxEntry | None:
        """Give what the log tells of a message, also of one that went on to its home."""
        return self._mailboxes.message(message_id)

    def expect_message(self, message_id: UUID) -> MailboxEntry:
        """Give what the log tells of a message, with all that came since the server last ran.

        Raises NotFoundError, and what `catch_up` raises when the message may be in what is missing.
        """
        try:
            entry = self.find_message(message_id)
        except TransientError:  # not built yet
            entry = None
        if entry is None:
            self.catch_up(MAILBOXES)
            entry = self.find_message(message_id)
        if entry is None:
            raise NotFoundError(f"nothing is recorded here of message {message_id}")
        return entry

    def catch_up(self, projection: Projection) -> None:
        """Fold all that the log holds, without the thread; returns when this one tells all of it.

        Raises CorruptionError when it has stopped at an event, NoRoomError when the disk is too
        full to build it anew: what it would tell lacks something.
        """
        end = self._reader.head().position
        self.runner.catch_up()
        name = projection.name
        (serving,) = (s for s in self.statuses() if s.name == name and s.is_serving)
        if serving.stopped_error is not None:
            place = f"position {serving.stopped_position}"
            raise CorruptionError(
                f"the read model {name} stopped and lacks what came after",
                place=place,
                advice="see 'vmledger projections status', and run 'vmledger log verify'",
            )
        if serving.state is not BuildState.RUNNING or serving.position < end:
            raise NoRoomError(
                f"the read model {name} does not hold all of this log, and the disk is too full to "
                "build it anew (min_free_disk_for_batches_bytes); free some space first"
            )

    def call_of(self, message_id: UUID) -> UUID | None:
        """Give the call of a message that the log tells of; None when it tells of none."""
        entry = self._mailboxes.message(message_id)
        return entry.call_id if entry is not None else None

    def statuses(self) -> list[ProjectionStatus]:
        """Say how each stands."""
        return self.runner.status()

    def close(self) -> None:
        """End the thread and close the store."""
        self.runner.stop()
        self.store.close()
