"""What a recovery says at its end: never more than it did, however often it was killed."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from ledger.configuration import Configuration, load_configuration
from ledger.errors import ConflictError, PeerError, TransientError
from ledger.events import DomainEvent, IncarnationStarted, ServerStarted
from ledger.identity import load_identity
from ledger.ids import server_stream_id
from ledger.migration.log_reading import own_word, read_blobs, read_kept_state, read_page
from ledger.migration.wire import LogPage, LogPageRequest, LogState, LogStateRequest, TrackedRow
from ledger.sealing import MasterKey
from ledger.storage.cosigned_checkpoints import MemoryCosignedCheckpoints
from ledger.storage.event_log import Append
from ledger.storage.log_copy import CheckpointFile
from ledger.storage.mapper import to_stored_event
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.memory_blobs import MemoryBlobStore
from ledger.storage.vault import Vault
from tests.support.clocks import SetClock
from vmledger.cluster import write_cluster
from vmledger.recovery import Recovery
from vmledger.recovery_folder import RecoveryFolder
from vmledger.recovery_report import RecoveryReport
from vmledger.recovery_target import open_target

AT = datetime(2026, 3, 1, tzinfo=UTC)
PORTS = {"alpha": (9001, 9002), "bravo": (9003, 9004)}
FIRST, SECOND, NEW = UUID(int=1), UUID(int=2), UUID(int=3)


async def in_place(work):
    return work()


class Copy:
    """A copy of alpha's log, at somebody who may know of more than it holds."""

    def __init__(self, config: Configuration, folder: Path, name: str = "bravo") -> None:
        self.name = name
        self.recorder = MemoryLogRecorder(FIRST)
        self.tracked: tuple[TrackedRow, ...] = ()
        self.damaged_from = 10_000
        """The first position that cannot be read."""
        self.is_away = False
        self._vouch = own_word(load_identity("alpha", config.identity.signing_key))
        self._checkpoint = CheckpointFile(folder)
        folder.mkdir()

    def grow(self, events: int) -> None:
        """Add events of alpha, one a minute."""
        head = self.recorder.head()
        stream = server_stream_id("alpha", UUID(int=9))
        first = len(self.recorder.read_streams([stream]).get(stream, ())) + 1
        self._commit(
            [
                ServerStarted(
                    originator_id=stream,
                    originator_version=version,
                    recorded_at=AT + timedelta(minutes=version),
                    recorded_by="alpha",
                    incarnation=head.incarnation,
                    software_version="1",
                )
                for version in range(first, first + events)
            ]
        )

    def go_on_as(self, incarnation: UUID) -> None:
        """Let the log tell that it went back here, and go on."""
        head = self.recorder.head()
        began = IncarnationStarted(
            originator_id=server_stream_id("alpha", incarnation),
            originator_version=1,
            recorded_at=AT,
            recorded_by="alpha",
            incarnation=incarnation,
            previous=head.incarnation,
            position=head.position,
            reason="the log was recovered",
        )
        self.recorder.start_incarnation(incarnation)
        self._commit([began])

    def _commit(self, events: list[DomainEvent]) -> None:
        self.recorder.commit([Append([to_stored_event(event) for event in events])])
        head = self.recorder.head()
        note = self._vouch(head)
        assert note is not None
        self._checkpoint.stage(note, head)

    async def log_state(self, request: LogStateRequest) -> LogState:
        if self.is_away:
            raise TransientError(f"server {self.name} does not answer")
        state = read_kept_state(request.of, self.recorder, "current", self._checkpoint)
        return LogState(copies=(state,), tracked=self.tracked)

    async def log_page(self, request: LogPageRequest) -> LogPage:
        if self.damaged_from <= request.after_position + 1 <= request.through_position:
            raise PeerError(f"{self.name} is damaged", peer=self.name)
        last = min(request.through_position, self.damaged_from - 1)
        return read_page(
            self.recorder,
            LogPageRequest(
                of=request.of,
                copy=request.copy,
                after_position=request.after_position,
                after_root=request.after_root,
                through_position=last,
                tree_size=request.tree_size,
            ),
            self._checkpoint.read,
            origins=(),
            cosigned=MemoryCosignedCheckpoints(),
        )

    async def blobs(self, of, digests):
        return read_blobs(digests, [(self.recorder, MemoryBlobStore())])


@pytest.fixture
def config(tmp_path) -> Configuration:
    extensions = {"alpha": ["1000-1999"], "bravo": ["2000-2999"]}
    files = write_cluster(tmp_path, list(extensions), extensions, PORTS)
    return load_configuration(files[0])


def recover(config: Configuration, *sources: Copy, until=None) -> RecoveryReport:
    folder = RecoveryFolder(config.data)
    with open_target(config, folder) as target:
        recovery = Recovery(
            config,
            target,
            folder,
            sources,
            vault=Vault(target.recorder, MasterKey(os.urandom(32)), os.urandom),
            offload=in_place,
            clock=SetClock(),
            new_id=lambda: NEW,
            until=until,
        )
        return asyncio.run(recovery.run())


class KilledError(Exception):
    pass


def recover_but_not_finish(config: Configuration, *sources: Copy) -> None:
    """Recover until the process is killed on its very last line."""

    def killed(_folder: RecoveryFolder) -> None:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecoveryFolder, "finish", killed)
        with pytest.raises(KilledError):
            recover(config, *sources)


def test_recovery_killed_on_its_last_line_says_what_is_missing_when_it_goes_on(config, tmp_path):
    copy = Copy(config, tmp_path / "copy")
    copy.grow(3)
    copy.go_on_as(SECOND)  # a log that was recovered once before
    copy.grow(4)
    copy.tracked = (TrackedRow(incarnation=SECOND, position=50, root="00" * 32),)
    recover_but_not_finish(config, copy)
    report = recover(config, copy)
    assert (report.position, report.known_until, report.told_by) == (8, 50, ["bravo"])
    assert not report.is_whole


@pytest.mark.parametrize("until", [8, AT + timedelta(minutes=8)])
def test_less_than_was_asked_for_is_not_called_as_far_as_was_asked_for(config, tmp_path, until):
    damaged, shorter = Copy(config, tmp_path / "damaged"), Copy(config, tmp_path / "shorter")
    for copy in (damaged, shorter):
        copy.grow(5)
    damaged.grow(5)
    damaged.damaged_from = 4
    report = recover(config, damaged, shorter, until=until)
    assert (report.position, report.known_until) == (5, 10)
    assert not report.is_whole


@pytest.mark.parametrize("until", [4, AT + timedelta(minutes=4)])
def test_recovery_that_went_further_than_is_asked_for_now_does_not_end(config, tmp_path, until):
    copy = Copy(config, tmp_path / "copy")
    copy.grow(10)
    copy.damaged_from = 8
    with pytest.raises(PeerError):
        recover(config, copy)
    with pytest.raises(ConflictError, match="empty the stores"):
        recover(config, copy, until=until)


@pytest.fixture
def half(config, tmp_path) -> Copy:
    """A copy of which the first run could copy the half; then its server is cut off."""
    copy = Copy(config, tmp_path / "half")
    copy.grow(10)
    copy.damaged_from = 6
    with pytest.raises(PeerError):
        recover(config, copy)
    copy.is_away = True
    return copy


@pytest.fixture
def carol(config, tmp_path, half) -> Copy:
    """An ordinary server, which took in what the log had shipped early on."""
    copy = Copy(config, tmp_path / "carol", "carol")
    root = half.recorder.root_at(2).hex()
    copy.tracked = (TrackedRow(incarnation=FIRST, position=2, root=root),)
    return copy


def test_half_a_log_is_not_all_while_its_source_may_come_back(config, half, carol):
    with pytest.raises(TransientError, match="does not answer"):
        recover(config, half, carol)
    half.is_away, half.damaged_from = False, 10_000
    report = recover(config, half, carol)
    assert (report.position, report.known_until) == (10, 10)


def test_half_a_log_is_not_called_whole_when_its_source_is_given_up(config, half, carol):
    report = recover(config, carol)
    assert report.position == 5
    assert not report.is_whole
