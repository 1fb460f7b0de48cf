"""Looking after blobs: is everything there and unspoilt, and what does no message need any more?

`verify` reads every blob that is wanted and names what is missing or rotten. `gc` drops what
nothing needs: loose blobs one by one, packs only as a whole. Blobs are written before the events
that name them, so a young blob that nothing names may be about to be named: the caller's
``min_age_s`` must be longer than any recording or batch takes from its bytes to its events, and the
set of what is needed must be read *after* this age began, so just before the call. Readers are
never in the way nor disturbed: stores drop names, not what somebody has open.

Both know only the port and what the caller read from the log.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeAlias

from ledger.errors import CallerError, CorruptionError, NotFoundError
from ledger.storage.blob_store import BlobStore, StoredBlob
from ledger.storage.event_log import BlobLocation

Progress: TypeAlias = Callable[[int], None]
"""Called with the number of blobs looked at so far."""


def _no_progress(done: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class RottenBlob:
    """A blob whose bytes are not those of its address."""

    digest: str
    place: str
    found: str
    """The digest of what is there."""


@dataclass(slots=True)
class VerifyReport:
    """What `verify` found."""

    checked: int = 0
    checked_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    corrupt: list[RottenBlob] = field(default_factory=list)
    orphan_loose: list[StoredBlob] = field(default_factory=list)
    """Loose blobs that nothing wants: being recorded now, or for `gc`."""
    orphan_packs: list[StoredBlob] = field(default_factory=list)
    """Packs in which nothing is wanted."""

    @property
    def is_sound(self) -> bool:
        """Is every wanted blob there as it was written? Orphans are no fault."""
        return not self.missing and not self.corrupt


@dataclass(slots=True)
class GcReport:
    """What `gc` dropped, or would drop."""

    is_dry_run: bool
    dropped_loose: list[StoredBlob] = field(default_factory=list)
    dropped_packs: list[StoredBlob] = field(default_factory=list)
    kept_young: list[StoredBlob] = field(default_factory=list)
    """Needed by nothing, but too young to be sure."""
    kept: int = 0
    """Number of loose blobs and packs that are needed."""

    @property
    def freed_bytes(self) -> int:
        """How much room the dropped ones took."""
        return sum(blob.size_bytes for blob in (*self.dropped_loose, *self.dropped_packs))


def verify(
    blobs: BlobStore,
    wanted: Iterable[str],
    locations: Mapping[str, BlobLocation],
    progress: Progress = _no_progress,
) -> VerifyReport:
    """Read every wanted blob, and list what nothing wants.

    ``locations`` are those of the wanted blobs that lie in packs (`LogRecorder.locate_blobs`).
    Raises TransientError when the store cannot be read now: nothing can be said then.
    """
    report = VerifyReport()
    wanted_digests = dict.fromkeys(wanted)
    for digest in wanted_digests:
        _verify_one(blobs, digest, locations.get(digest), report)
        report.checked += 1
        progress(report.checked)
    wanted_packs = _packs_of(wanted_digests, locations)
    report.orphan_loose = [b for b in blobs.list_loose() if b.digest not in wanted_digests]
    report.orphan_packs = [p for p in blobs.list_packs() if p.digest not in wanted_packs]
    return report


def gc(
    blobs: BlobStore,
    needed: AbstractSet[str],
    locations: Mapping[str, BlobLocation],
    *,
    min_age_s: float,
    dry_run: bool = False,
    progress: Progress = _no_progress,
) -> GcReport:
    """Drop loose blobs, and packs as a whole, in which nothing is needed and that are old enough.

    ``locations`` are those of the needed blobs that lie in packs. A needed blob's loose copy stays
    even where a pack has it too: it may be what healed the pack. Idempotent; stopping in between
    leaves a store that is merely less tidy.
    """
    if min_age_s <= 0:
        raise CallerError("blobs may only be dropped after some age: they are older than events")
    report = GcReport(is_dry_run=dry_run)
    sift = _Sifter(report, min_age_s, dry_run, progress)
    report.dropped_loose = [
        b for b in list(blobs.list_loose()) if sift(b, b.digest in needed, blobs.delete)
    ]
    needed_packs = _packs_of(needed, locations)
    report.dropped_packs = [
        p for p in list(blobs.list_packs()) if sift(p, p.digest in needed_packs, blobs.delete_pack)
    ]
    return report


@dataclass(slots=True)
class _Sifter:
    """Decides on one blob or pack after the other, and drops it or does not."""

    report: GcReport
    min_age_s: float
    dry_run: bool
    progress: Progress
    seen: int = 0

    def __call__(self, blob: StoredBlob, is_needed: bool, drop: Callable[[str], None]) -> bool:
        self.seen += 1
        self.progress(self.seen)
        if is_needed:
            self.report.kept += 1
            return False
        if blob.age_s < self.min_age_s:
            self.report.kept_young.append(blob)
            return False
        if not self.dry_run:
            drop(blob.digest)
        return True


def _verify_one(
    blobs: BlobStore, digest: str, location: BlobLocation | None, report: VerifyReport
) -> None:
    try:
        report.checked_bytes += len(blobs.get(digest, location))
    except NotFoundError:
        report.missing.append(digest)
    except CorruptionError as error:
        report.corrupt.append(RottenBlob(digest, error.place, error.found))


def packed_here(blobs: BlobStore, locations: Mapping[str, BlobLocation]) -> set[str]:
    """Give those of these blobs whose pack is there.

    Where a blob lies stays noted when its pack is dropped, because nobody needs anything in it; and
    a message may come back to where it was. Raises TransientError.
    """
    packs = {pack.digest for pack in blobs.list_packs()} if locations else set()
    return {digest for digest, location in locations.items() if location.pack in packs}


def _packs_of(digests: Collection[str], locations: Mapping[str, BlobLocation]) -> set[str]:
    return {loc.pack for digest, loc in locations.items() if digest in digests}
