"""Verify the stored recordings, and collect those that nothing needs any more.

Source: claim 10.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from ledger.configuration import Configuration
from ledger.storage.blob_care import GcReport, VerifyReport, gc, verify
from ledger.storage.blob_store import BlobStore
from ledger.storage.event_log import LogRecorder
from ledger.storage.open_blob_store import open_blob_store
from vmledger.cli.options import ConfigOption, JsonOption, load_config
from vmledger.cli.output import print_facts, print_json, progress_bar, show_age, show_size
from vmledger.stores import open_log

RESTORE: Final = "restore these from a backup, or from another server that holds them"


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(help="Verify and tidy the stored recordings.", no_args_is_help=True)
    group.command("verify")(verify_blobs)
    group.command("gc")(collect)
    app.add_typer(group, name="blobs")


def verify_blobs(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Read every recording that must be here. Exit code 1 if one is missing or damaged."""
    report = verify_all(load_config(config))
    if as_json:
        print_json(report)
    else:
        print_verification(report)
    if not report.is_sound:
        raise typer.Exit(1)


def verify_all(config: Configuration, blobs: BlobStore | None = None) -> VerifyReport:
    """Verify every blob that the log says must be here, with a progress bar.

    ``blobs``: where they lie, if not where the configuration says.
    """
    with open_log(config) as recorder:
        needed = _needed(config, recorder)
        locations = recorder.locate_blobs(sorted(needed))
    with _progress("recordings", len(needed)) as advance:
        store = blobs or open_blob_store(config.stores.blobs)
        return verify(store, sorted(needed), locations, advance)


def _needed(config: Configuration, recorder: LogRecorder) -> set[str]:
    from vmledger.blob_needs import needed_blobs  # noqa: PLC0415 - takes long to import

    keep_for = timedelta(days=config.retention.keep_audio_days_after_delivery)
    return needed_blobs(recorder, config.server, keep_for, datetime.now(UTC))


@contextlib.contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    with progress_bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def print_verification(report: VerifyReport, advice: str = RESTORE) -> None:
    """Print for people what was found out about the recordings, and what to do about it."""
    for digest in report.missing:
        print(f"missing: {digest}")
    for rotten in report.corrupt:
        print(f"damaged: {rotten.digest} in {rotten.place}")
    orphans = [*report.orphan_loose, *report.orphan_packs]
    print_facts(
        (
            ("recordings", report.checked),
            ("size", show_size(report.checked_bytes)),
            ("missing", len(report.missing)),
            ("damaged", len(report.corrupt)),
            ("not needed", f"{len(orphans)} ({show_size(sum(o.size_bytes for o in orphans))})"),
        )
    )
    if not report.is_sound:
        print(advice)


def collect(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be dropped.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop recordings that no message needs and that are old enough. Safe beside the server."""
    loaded = load_config(config)
    with open_log(loaded) as recorder:
        needed = _needed(loaded, recorder)
        locations = recorder.locate_blobs(sorted(needed))
    with _progress("files", None) as advance:
        report = gc(
            open_blob_store(loaded.stores.blobs),
            needed,
            locations,
            min_age_s=loaded.retention.gc_min_age_s,
            dry_run=dry_run,
            progress=advance,
        )
    if as_json:
        print_json({"freed_bytes": report.freed_bytes, "report": report})
    else:
        _print_collection(report)


def _print_collection(report: GcReport) -> None:
    dropped = [*report.dropped_loose, *report.dropped_packs]
    for blob in dropped:
        print(f"{blob.digest}  {show_size(blob.size_bytes)}, {show_age(blob.age_s)} old")
    print_facts(
        (
            ("would be dropped" if report.is_dry_run else "dropped", len(dropped)),
            ("room", show_size(report.freed_bytes)),
            ("too young", len(report.kept_young)),
            ("needed", report.kept),
        )
    )
