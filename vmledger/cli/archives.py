"""Write a server's log and recordings to an archive.

Source: claim 10.
"""

from __future__ import annotations

from typing import Annotated

import typer

from vmledger.cli.options import ConfigOption, JsonOption, load_config
from vmledger.cli.output import print_facts, print_json, progress_bar


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    app.command("archive")(archive)


def archive(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE", help="A directory, or s3://BUCKET/PREFIX?endpoint=URL&region=NAME."
        ),
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what is new of this server's log and recordings to the archive in PLACE.

    Safe beside the running server; nothing in PLACE is ever changed, only added to. Run it on a
    schedule. 'vmledger recover --from PLACE' reads it. Credentials of a bucket come from the
    environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    """
    # Here, not above: it needs every library, and most commands need none.
    from vmledger.archive import write_archive  # noqa: PLC0415
    from vmledger.archive_place import open_place  # noqa: PLC0415

    loaded = load_config(config)
    opened = open_place(place, lock=loaded.data / "archiving")
    with progress_bar() as bar:
        task = bar.add_task("events", total=None)
        report = write_archive(
            loaded, opened, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        print_json(report)
        return
    print_facts(
        (
            ("server", report.server),
            ("position", report.position),
            ("root", report.root),
            ("new segments", report.new_segments),
            ("new events", report.new_events),
            ("new recordings", report.new_recordings),
            ("recordings not there", report.absent or None),
        )
    )
