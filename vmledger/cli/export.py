"""Export the log, calls, messages and the audit trail, for other tools.

Source: claim 10.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ledger.events import AccessKind
from vmledger.cli.options import ConfigOption, load_config
from vmledger.export_rows import Format, Table
from vmledger.stores import open_callers, open_log, open_read_models


def register(app: typer.Typer) -> None:
    """Add the command of this topic."""
    app.command("export")(export)


def export(
    table: Annotated[Table, typer.Argument(help="What to export.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    form: Annotated[Format, typer.Option("--format", help="How.")] = Format.NDJSON,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    config: ConfigOption = None,
) -> None:
    """Write the log, the calls, the messages or the audit trail to a file for other tools.

    Beside the server if it runs. The columns are in docs/reference/export.md. That it was exported
    is recorded first. Parquet needs the extra 'parquet' of this package.
    """
    # Imported only here: what reads the tables takes a second to import.
    from vmledger.export import SOURCES, read_rows, write_export  # noqa: PLC0415
    from vmledger.local_access import record_local_access  # noqa: PLC0415

    loaded = load_config(config)
    with open_log(loaded) as log, open_read_models(loaded, log) as models:
        if (source := SOURCES.get(table)) is not None:
            models.catch_up(source)
        record_local_access(log, loaded.server, AccessKind.EXPORTED, table.value)
        rows = read_rows(table, log, models, open_callers(loaded, log))
        count = write_export(output, table, form, rows, force=force)
    print(f"wrote {count} rows to {output}", file=sys.stderr)
