"""An archive of a log: files that are written once and never changed, in a directory or a bucket.

    segments/00000000000000000001-00000000000000002000.segment
    blobs/

A segment holds a stretch of the log, byte for byte, with the checkpoint that the server signed for
its end and the places of the recordings that its events name; it is a zstd frame with a checksum.
A second run writes only segments that follow. Recordings are copied before the segment that names
them, so that a segment that is there is whole; killed half-way, the next run goes on.

What the server does not need any more is not dropped from an archive: that is for whoever keeps it.

Source: claim 10; RFC 9162 section 2.1; C2SP tlog-checkpoint.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import zstandard
from eventsourcing.persistence import IntegrityError

from ledger.checkpoint import log_key, read_log_name
from ledger.configuration import Configuration
from ledger.errors import CallerError, ConflictError, CorruptionError, NotFoundError
from ledger.events import decode
from ledger.identity import load_identity
from ledger.migration.former_events import blob_of
from ledger.migration.log_reading import own_word, read_page
from ledger.migration.log_writing import lay_out
from ledger.migration.wire import CopiedEvent, KeptKey, LogPage, LogPageRequest
from ledger.signed_note import parse_note
from ledger.storage.copy_blobs import copy_blobs
from ledger.storage.event_log import BlobLocation, LogRecorder
from ledger.storage.log_copy import LogCopy
from ledger.storage.merkle import EMPTY_ROOT
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.open_recorder import open_recorder
from ledger.storage.sql_cosigned_checkpoints import SqlCosignedCheckpoints
from vmledger.archive_place import SEGMENTS, SUFFIX, ArchivePlace

_LEVEL: Final = 9
_MOST_SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""Of a segment's JSON. A page of a log is some 8 MiB, and an event more."""

Progress = Callable[[int, int], None]
"""Called with the position that is reached and the one to reach."""


class Segment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of a log."""

    version: int = 1
    after_position: int
    through_position: int
    root: str
    """Of the log at ``through_position``, hexadecimal."""
    checkpoint: str
    """Signed by the log's server, for ``through_position``."""
    events: tuple[CopiedEvent, ...]
    blobs: tuple[BlobLocation, ...]
    """Where the recordings lie in ``blobs/`` that its events name."""
    keys: tuple[KeptKey, ...] = ()
    """Of the calls that begin in it, for who has the server's master key."""


class ArchiveReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds now."""

    server: str
    position: int
    """It covers the server's log up to here."""
    root: str
    new_segments: int
    new_events: int
    new_recordings: int
    absent: int
    """Recordings that the new events name and the server has not, or not any more."""


def write_archive(
    config: Configuration, place: ArchivePlace, on_progress: Progress = lambda _done, _all: None
) -> ArchiveReport:
    """Write what is new of a server's log to an archive; durable on return.

    Safe beside the running server. Raises ConflictError for a place that holds an archive of
    another history, or that another process writes; TransientError when a store cannot work now.
    """
    recorder = open_recorder(config.stores.events)
    cosigned = SqlCosignedCheckpoints(config.stores.events)
    try:
        with place.hold():
            return _Writer(config, place, recorder, cosigned).run(on_progress)
    finally:
        cosigned.close()
        recorder.close()


class _Writer:
    def __init__(
        self,
        config: Configuration,
        place: ArchivePlace,
        recorder: LogRecorder,
        cosigned: SqlCosignedCheckpoints,
    ) -> None:
        self._config = config
        self._place = place
        self._recorder = recorder
        self._cosigned = cosigned
        self._vouch = own_word(load_identity(config.server, config.identity.signing_key))
        self._source = open_blob_store(config.stores.blobs)

    def run(self, on_progress: Progress) -> ArchiveReport:
        after, root = _end(self._place)
        end = self._recorder.head().position
        segments = events = recordings = absent = 0
        while True:
            page = self._page(after, root, max(after, end))
            if not page.events:
                break
            blobs, not_there = self._copy_blobs(page)
            self._write(page, blobs)
            after, root = page.through_position, page.root
            segments, events = segments + 1, events + len(page.events)
            recordings, absent = recordings + len(blobs), absent + not_there
            on_progress(after, end)
        return ArchiveReport(
            server=self._config.server,
            position=after,
            root=root,
            new_segments=segments,
            new_events=events,
            new_recordings=recordings,
            absent=absent,
        )

    def _page(self, after: int, root: str, end: int) -> LogPage:
        request = LogPageRequest(
            of=self._config.server,
            after_position=after,
            after_root=root,
            through_position=end,
            tree_size=end,
        )
        page = read_page(self._recorder, request, self._vouch, origins=(), cosigned=self._cosigned)
        if page.is_other_history:
            raise ConflictError(
                f"the {after} events in {self._place.name} are not the first ones of this log: it "
                "is another server's archive, or this log went back in time; keep it, and archive "
                "to another place"
            )
        return page

    def _copy_blobs(self, page: LogPage) -> tuple[tuple[BlobLocation, ...], int]:
        named = (blob_of(decode(bytes(copied.plain))) for copied in page.events)
        digests = list(dict.fromkeys(one[0] for one in named if one is not None))
        located = self._recorder.locate_blobs(digests)
        copied = copy_blobs(digests, self._source, located, self._place.blobs)
        return tuple(copied.locations), len(copied.unreadable)

    def _write(self, page: LogPage, blobs: tuple[BlobLocation, ...]) -> None:
        assert page.checkpoint is not None, "the server's own word can always be had"
        segment = Segment(
            after_position=page.after_position,
            through_position=page.through_position,
            root=page.root,
            checkpoint=page.checkpoint,
            events=page.events,
            blobs=blobs,
            keys=page.keys,
        )
        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        data = compressor.compress(msgspec.json.encode(segment))
        name = f"{page.after_position + 1:020}-{page.through_position:020}{SUFFIX}"
        # A crash before this leaves recordings that no segment names, and no segment.
        self._place.write(name, data)


def _end(place: ArchivePlace) -> tuple[int, str]:
    """Say where an archive ends: position and root."""
    names = place.segments()
    if not names:
        return 0, EMPTY_ROOT.hex()
    last = _read(place, names[-1])
    return last.through_position, last.root


def _read(place: ArchivePlace, name: str) -> Segment:
    try:
        frame = place.read(name, _MOST_SEGMENT_BYTES)
        return msgspec.json.decode(_decompress(frame), type=Segment)
    except (OSError, zstandard.ZstdError, ValueError, RecursionError) as error:
        raise CorruptionError(
            f"a segment of the archive cannot be read: {error}",
            place=_where(place, name),
            advice="take this file from another copy of the archive, or recover without it",
        ) from error


def _decompress(frame: bytes) -> bytes:
    """Give what a segment's frame holds; ZstdError or ValueError for anything but one whole frame.

    Whoever carried the segment may have made it: it says how large it gets before it does.
    """
    parameters = zstandard.get_frame_parameters(frame)
    if parameters.content_size > _MOST_SEGMENT_BYTES or not parameters.has_checksum:
        raise ValueError("its frame is too large, of no stated size or has no checksum")
    return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)


def unpack(place: ArchivePlace, target: Path) -> LogCopy:
    """Make a copy of the log in ``target`` from an archive; its blobs stay where they are.

    Who signed what is the reader's to check. Raises NotFoundError for an archive without segments,
    CorruptionError for one with a gap or a segment that is not what it was, TransientError.
    """
    names = place.segments()
    if not names:
        raise NotFoundError(f"there are no segments in {place.name}/{SEGMENTS}")
    copy = LogCopy(target, is_new=True, blobs=place.blobs)
    try:
        for name in names:
            _add(copy, segment := _read(place, name), _where(place, name))
        copy.checkpoint.stage(segment.checkpoint, copy.recorder.head())
        copy.checkpoint.settle(segment.checkpoint)
    except BaseException:
        copy.close()
        raise
    return copy


@contextmanager
def archive_as_log(config: Configuration, place: ArchivePlace) -> Iterator[Configuration]:
    """Give a configuration under which this server's log is the one in its archive.

    Raises CorruptionError when the server did not sign for that, and what `unpack` raises.
    """
    with (
        tempfile.TemporaryDirectory(prefix="vmledger-archive-") as folder,
        closing(unpack(place, Path(folder))) as copy,
    ):
        head = copy.recorder.head()
        text = copy.checkpoint.read(head)
        key = log_key(config.server, head.incarnation, config.directory.own.public_key)
        if text is None or not parse_note(text).is_signed_by(key):
            raise CorruptionError(
                f"{config.server} did not sign for the {head.position} events of the archive",
                place=_where(place, place.segments()[-1]),
                advice="it is another server's archive, or somebody changed it",
            )
        stores = msgspec.structs.replace(config.stores, events=copy.url)
        yield msgspec.structs.replace(config, stores=stores)


def _where(place: ArchivePlace, name: str) -> str:
    return f"{place.name}/{SEGMENTS}/{name}"


def _add(copy: LogCopy, segment: Segment, where: str) -> None:
    """Put a segment behind what is in the copy."""
    head = copy.recorder.head()
    if segment.after_position != head.position:
        raise _damaged(where, f"position {head.position + 1} is not in the archive")
    try:
        for result in copy.recorder.commit(
            list(lay_out(segment.events, segment.blobs, segment.keys))
        ):
            if isinstance(result, Exception):
                raise result
        incarnation = _incarnation(segment)
    except (IntegrityError, OverflowError, CallerError) as error:
        raise _damaged(where, f"its events are no log of a server: {error}") from error
    head = copy.recorder.head()
    if (head.position, head.root.hex()) != (segment.through_position, segment.root):
        raise _damaged(where, "its events are not those that were signed")
    copy.recorder.start_incarnation(incarnation)


def _incarnation(segment: Segment) -> UUID:
    log = parse_note(segment.checkpoint).text.split("\n", 1)[0]
    return read_log_name(log)[1]


def _damaged(where: str, what: str) -> CorruptionError:
    return CorruptionError(
        f"the archive is damaged: {what}",
        place=where,
        advice="take this file from another copy of the archive",
    )
