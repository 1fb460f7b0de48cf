"""Back up a server beside its running program, verify the copy, and restore a server from it.

A backup is a directory, the same for every kind of store:

    checkpoint         the server's signed word on the log that is in here; written last
    checkpoint.next    the same, while a backup is being made
    ledger.sqlite      the log of one moment
    blobs/             the audio of every message that the log says must be there
    set-aside/         recordings that could not become a message
    configuration/     vmledger.toml and the certificates that it names

A second backup into the same directory copies only what is new. The order is what makes it
consistent without stopping anything: audio is on disk before the event that names it, so what the
copied log names is there when the audio is copied after it.

The keys are kept apart (`copy_keys`): who has them can sign as this server.

Source: claim 10; C2SP tlog-checkpoint (what vouches for a backup).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from ledger.checkpoint import Checkpoint, log_key, log_name, parse_checkpoint
from ledger.configuration import Configuration
from ledger.errors import CallerError, ConflictError, CorruptionError, NotFoundError
from ledger.identity import load_identity
from ledger.storage.blob_care import VerifyReport, gc, packed_here
from ledger.storage.blob_care import verify as verify_blobs
from ledger.storage.copy_blobs import CopiedBlobs, copy_blobs
from ledger.storage.copy_log import add_blob_locations, copy_log
from ledger.storage.event_log import LogHead, LogRecorder
from ledger.storage.files import SystemFiles, write_durably
from ledger.storage.filesystem_blobs import FilesystemBlobStore
from ledger.storage.log_copy import CheckpointFile
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.open_recorder import open_recorder
from ledger.storage.row_check import check_rows
from ledger.storage.spool import SET_ASIDE
from ledger.storage.sql_cosigned_checkpoints import read_to_verify
from vmledger.blob_needs import needed_blobs
from vmledger.data_lock import DataLock
from vmledger.recovery_folder import RecoveryFolder
from vmledger.signing import sign_head
from vmledger.verification import LogVerification, verify_log

CHECKPOINT_FILE: Final = "checkpoint"
_LOG_FILE: Final = "ledger.sqlite"
_BLOBS: Final = "blobs"
_CONFIGURATION: Final = "configuration"
_GC_MIN_AGE_S: Final = 1.0
"""The backup is locked: nobody else is about to name what nothing names yet."""

Progress = Callable[[str, int, int], None]
"""Called with what is done (``log``, ``recordings``), how much of it, and how much there is."""


def _no_progress(_what: str, _done: int, _all: int) -> None:
    """Show nothing."""


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds now."""

    server: str
    position: int
    """It covers the server's log up to here."""
    root: str
    """The Merkle root there, hexadecimal."""
    new_events: int
    new_recordings: int
    new_bytes: int
    """Size of the new recordings."""
    missing: dict[str, str]
    """Recordings that must be there and could not be read at the server: digest → why."""
    verification: BackupVerification

    @property
    def is_whole(self) -> bool:
        """Does it hold everything that it should?"""
        return not self.missing and self.verification.is_sound


class BackupVerification(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a whole backup has shown."""

    server: str
    position: int
    root: str
    problems: list[str]
    """About the checkpoint."""
    log: LogVerification
    blobs: VerifyReport

    @property
    def is_sound(self) -> bool:
        """Can a server be restored from it as it is?"""
        return not self.problems and self.log.is_intact and self.blobs.is_sound


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was restored."""

    server: str
    position: int
    root: str
    recordings: int
    missing: dict[str, str]
    """Recordings that the backup should hold and does not: digest → what is wrong."""

    @property
    def is_whole(self) -> bool:
        """Is everything there that the log names?"""
        return not self.missing


class _Backup:
    """The places in a backup's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.log_file = self.directory / _LOG_FILE
        self.log_url = f"sqlite:///{self.log_file}"
        self.blobs = self.directory / _BLOBS
        self.set_aside = self.directory / SET_ASIDE
        self.checkpoint = self.directory / CHECKPOINT_FILE
        self.word = CheckpointFile(self.directory)

    def expect(self) -> None:
        """Raise NotFoundError unless there is a log in here."""
        if not self.log_file.is_file():
            raise NotFoundError(
                f"{self.directory} is no backup: it holds no {_LOG_FILE}; name the directory that "
                "'vmledger backup create' wrote"
            )


# --- Make one -----------------------------------------------------------------------------------


def create_backup(
    config: Configuration,
    directory: Path,
    now: datetime,
    on_progress: Progress = _no_progress,
) -> BackupReport:
    """Make a backup of a server, or bring one up to date, and verify all of it.

    Safe beside the running server. Raises ConflictError for a directory that holds another log's
    backup, or that another process writes; TransientError when a store cannot be used now. Killed
    half-way, the backup that was there before still is, and the next one completes it.
    """
    backup = _Backup(directory)
    # Voices are in there, and digests of PINs: nobody else may read it.
    backup.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(backup):
        before = _head(backup)
        identity = load_identity(config.server, config.identity.signing_key)
        # A crash after the log is committed leaves a backup of what it has now: the checkpoint of
        # that is staged. A recording that was not copied by then is found missing, none is lost.
        head = copy_log(
            config.stores.events,
            backup.log_url,
            on_progress=lambda done, total: on_progress("log", done, total),
            before_commit=lambda end: backup.word.stage(sign_head(end, identity).to_text(), before),
        )
        copied = _copy_needed(config, backup, now, on_progress)
        _copy_set_aside(config, backup)
        _copy_configuration(config, backup)
        backup.word.finish(sign_head(head, identity).to_text())
        return BackupReport(
            server=config.server,
            position=head.position,
            root=head.root.hex(),
            new_events=head.position - before.position,
            new_recordings=len(copied.locations),
            new_bytes=copied.size_bytes,
            missing=copied.unreadable,
            verification=_verify(config, backup, now, on_progress),
        )


def copy_keys(config: Configuration, directory: Path) -> list[Path]:
    """Copy the files that prove who the server is, and its master key, to a directory of their own.

    Gives the copies.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [_replace(file.read_bytes(), directory / file.name) for file in config.identity.all]


def _locked(backup: _Backup) -> DataLock:
    try:
        return DataLock(backup.directory)
    except ConflictError as error:
        raise ConflictError(
            f"another backup into {backup.directory} is being made; wait for its end"
        ) from error


def _head(backup: _Backup) -> LogHead:
    """Give the head of the log in a backup, which is made if there is none."""
    recorder = open_recorder(backup.log_url)
    try:
        return recorder.head()
    finally:
        recorder.close()


def _copy_needed(
    config: Configuration, backup: _Backup, now: datetime, on_progress: Progress
) -> CopiedBlobs:
    """Copy the recordings that the copied log needs and the backup lacks; drop what it does not."""
    target = FilesystemBlobStore(backup.blobs)
    copy = open_recorder(backup.log_url)
    source = open_recorder(config.stores.events)
    try:
        needed = _needed(config, copy, now)
        held = packed_here(target, copy.locate_blobs(sorted(needed)))
        wanted = sorted(d for d in needed if d not in held and not target.has(d))
        copied = copy_blobs(
            wanted,
            open_blob_store(config.stores.blobs),
            source.locate_blobs(wanted),
            target,
            lambda done: on_progress("recordings", done, len(wanted)),
        )
        add_blob_locations(backup.log_url, copied.locations)
        if copied.unreadable:
            # The server may have dropped it meanwhile because nothing needs it any more.
            still_needed = _needed(config, source, now)
            copied.unreadable = {d: w for d, w in copied.unreadable.items() if d in still_needed}
        gc(target, needed, copy.locate_blobs(sorted(needed)), min_age_s=_GC_MIN_AGE_S)
        return copied
    finally:
        copy.close()
        source.close()


def _needed(config: Configuration, recorder: LogRecorder, now: datetime) -> set[str]:
    keep_for = timedelta(days=config.retention.keep_audio_days_after_delivery)
    return needed_blobs(recorder, config.server, keep_for, now)


def _copy_set_aside(config: Configuration, backup: _Backup) -> None:
    source = config.spool / SET_ASIDE
    if source.is_dir():
        shutil.copytree(source, backup.set_aside, dirs_exist_ok=True)


def _copy_configuration(config: Configuration, backup: _Backup) -> None:
    folder = backup.directory / _CONFIGURATION
    beside = config.file.parent
    certificates = [peer.certificate for peer in config.directory.peers if peer.certificate]
    for file in (config.file, *certificates):
        is_below = file.is_relative_to(beside)
        copy = folder / (file.relative_to(beside) if is_below else file.name)
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(file.read_bytes(), copy)


def _replace(data: bytes, path: Path) -> Path:
    """Write a file that only its owner can read, whole or not at all; durable on return."""
    write_durably(SystemFiles(), path, data)
    return path


# --- Verify one ---------------------------------------------------------------------------------


def verify_backup(
    config: Configuration, directory: Path, now: datetime, on_progress: Progress = _no_progress
) -> BackupVerification:
    """Read a whole backup: its log, all signatures over it, and every recording that it must hold.

    Raises NotFoundError for a directory that is no backup.
    """
    backup = _Backup(directory)
    backup.expect()
    return _verify(config, backup, now, on_progress)


def _verify(
    config: Configuration, backup: _Backup, now: datetime, on_progress: Progress
) -> BackupVerification:
    recorder = open_recorder(backup.log_url)
    try:
        head = recorder.head()
        log = verify_log(
            recorder,
            lambda done, total: on_progress("verify log", done, total),
            server=config.server,
            keys={s.id: s.public_key for s in config.directory.servers.values()},
            checkpoints=read_to_verify(backup.log_url),
            faults=check_rows(backup.log_url),
            url=backup.log_url,
        )
        problems = _checkpoint_problems(config, backup, head)
        needed = sorted(_needed(config, recorder, now)) if log.is_intact else []
        blobs = verify_blobs(
            FilesystemBlobStore(backup.blobs),
            needed,
            recorder.locate_blobs(needed),
            lambda done: on_progress("verify recordings", done, len(needed)),
        )
    finally:
        recorder.close()
    return BackupVerification(
        server=config.server,
        position=head.position,
        root=head.root.hex(),
        problems=problems,
        log=log,
        blobs=blobs,
    )


def _checkpoint_problems(config: Configuration, backup: _Backup, head: LogHead) -> list[str]:
    try:
        text = backup.word.read(head) or backup.checkpoint.read_text("utf-8")
        signed, checkpoint = parse_checkpoint(text)
    except FileNotFoundError:
        return ["there is no checkpoint: the backup was never finished; make it again"]
    except (CallerError, UnicodeDecodeError, OSError) as error:
        return [f"the checkpoint cannot be read: {error}"]
    name = log_name(config.server, head.incarnation)
    if checkpoint.log != name:
        return [f"the checkpoint is of {checkpoint.log}, and this is the log {name}"]
    key = log_key(config.server, head.incarnation, config.directory.own.public_key)
    if not signed.is_signed_by(key):
        return [f"the checkpoint is not signed by {config.server}"]
    if checkpoint != Checkpoint(name, head.position, head.root):
        problem = (
            f"the checkpoint is of {checkpoint.size} events, and the log has {head.position}: the "
            "last backup was not finished, or one of them was changed"
        )
        return [problem]
    return []


# --- Restore ------------------------------------------------------------------------------------


def restore_backup(
    config: Configuration, directory: Path, now: datetime, on_progress: Progress = _no_progress
) -> RestoreReport:
    """Fill the empty stores of a configuration from a backup of the same server.

    The audio first, then the log that names it, in one transaction: killed half-way, the stores
    are still empty and the same command does it again. Raises CorruptionError for a backup whose
    log or checkpoint is not as it was written, ConflictError for stores that are not empty or that
    a server uses, NotFoundError for a directory that is no backup.

    Recordings that the backup lacks do not keep the others from being restored; the report names
    them.
    """
    backup = _Backup(directory)
    backup.expect()
    with DataLock(config.data):
        _expect_empty(config)
        copy = open_recorder(backup.log_url)
        try:
            _expect_sound(config, backup, copy, on_progress)
            needed = sorted(_needed(config, copy, now))
            copied = copy_blobs(
                needed,
                FilesystemBlobStore(backup.blobs),
                copy.locate_blobs(needed),
                open_blob_store(config.stores.blobs),
                lambda done: on_progress("recordings", done, len(needed)),
            )
        finally:
            copy.close()
        if (backup.set_aside).is_dir():
            place = config.spool / SET_ASIDE
            shutil.copytree(backup.set_aside, place, dirs_exist_ok=True)
        # A crash before the log is there leaves empty stores, of which no recovery is left either.
        recovery = RecoveryFolder(config.data)
        if recovery.is_open:
            recovery.finish()  # it has brought nothing: else the stores would not be empty
        head = copy_log(
            backup.log_url,
            config.stores.events,
            blob_locations=copied.locations,
            on_progress=lambda done, total: on_progress("log", done, total),
        )
    return RestoreReport(
        server=config.server,
        position=head.position,
        root=head.root.hex(),
        recordings=len(copied.locations),
        missing=copied.unreadable,
    )


def _expect_empty(config: Configuration) -> None:
    recorder = open_recorder(config.stores.events)
    try:
        position = recorder.head().position
    finally:
        recorder.close()
    if position:
        raise ConflictError(
            f"the log of {config.server} has {position} events already and is not overwritten; "
            "put it aside, and restore into empty stores"
        )


def _expect_sound(
    config: Configuration, backup: _Backup, copy: LogRecorder, on_progress: Progress
) -> None:
    verification = verify_log(
        copy, lambda done, total: on_progress("verify log", done, total), url=backup.log_url
    )
    problems = [
        *_checkpoint_problems(config, backup, copy.head()),
        *(f"{finding.place}: {finding.what}" for finding in verification.findings),
    ]
    if problems:
        raise CorruptionError(
            f"the backup is not as it was written: {problems[0]}",
            place=str(backup.directory),
            advice="look at all of it with 'vmledger backup verify', and take an older one",
        )
