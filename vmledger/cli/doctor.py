"""``vmledger doctor``: look at everything that a server needs, and say what to do about the rest.

Source: claims 4, 6, 10 and 13.
"""

from __future__ import annotations

import typer

from vmledger.cli.options import ConfigOption, JsonOption, load_config
from vmledger.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    app.command("doctor")(doctor)


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check configuration, keys, stores, disk, clock, projections and peers.

    Exit code 1 if anything fails; warnings alone are 0.
    """
    # Here, not above: it looks at everything, so it needs every library.
    from vmledger.doctor import Verdict, examine  # noqa: PLC0415

    checks = examine(load_config(config))
    if as_json:
        print_json({"checks": checks})
    else:
        print_table(
            ("", "what", "found", "what to do"),
            ((check.verdict.value, check.name, check.found, check.advice) for check in checks),
            if_empty="",
        )
    if any(check.verdict is Verdict.FAIL for check in checks):
        raise typer.Exit(1)
