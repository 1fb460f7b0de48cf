"""Write a server's log and recordings to an archive.

Source: claim 10.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vmledger.cli.options import ConfigOption, JsonOption, load_config
from vmledger.cli.output import print_facts, print_json, progress_bar


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    app.command("archive")(archive)


def archive(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The archive.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what is new of this server's log and recordings to the archive in DIR.

    Safe beside the running server; nothing in DIR is ever changed, only added to. Run it on a
    schedule. 'vmledger recover --from DIR' reads it.
    """
    # Here, not above: it needs every library, and most commands need none.
    from vmledger.archive import write_archive  # noqa: PLC0415

    loaded = load_config(config)
    with progress_bar() as bar:
        task = bar.add_task("events", total=None)
        report = write_archive(
            loaded, directory, lambda done, total: bar.update(task, completed=done, total=total)
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
