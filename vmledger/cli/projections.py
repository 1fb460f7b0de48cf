"""Say how the read models stand, and build them anew from the log.

Source: claim 10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ledger.errors import NoRoomError
from vmledger.cli.options import ConfigOption, JsonOption, load_config
from vmledger.cli.output import print_json, print_table, progress_bar, show_age
from vmledger.stores import open_log, open_read_models, open_room

if TYPE_CHECKING:
    from projections.runner import ProjectionStatus
    from vmledger.read_models import ReadModels


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(help="The read models, derived from the log.", no_args_is_help=True)
    group.command("status")(status)
    group.command("rebuild")(rebuild)
    app.add_typer(group, name="projections")


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how far each read model is. Exit code 1 if one has stopped."""
    loaded = load_config(config)
    with open_log(loaded) as log, open_read_models(loaded, log) as models:
        found = models.statuses()
    if as_json:
        print_json({"projections": found})
    else:
        _print_statuses(found)
    if any(one.stopped_error for one in found):
        raise typer.Exit(1)


def _print_statuses(found: list[ProjectionStatus]) -> None:
    print_table(
        ("name", "#version", "#build", "state", "serves", "#position", "#behind", "#by", "problem"),
        (
            (
                one.name,
                one.version,
                one.number,
                one.state.value,
                "yes" if one.is_serving else "no",
                one.position,
                one.lag_events,
                show_age(one.lag_s),
                _problem(one),
            )
            for one in found
        ),
        if_empty="nothing is built yet: start the server, or run 'vmledger projections rebuild'",
    )


def _problem(one: ProjectionStatus) -> str:
    if one.stopped_error is None:
        return ""
    return f"stopped at position {one.stopped_position} ({one.stopped_topic}): {one.stopped_error}"


def rebuild(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; all if none is named.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build read models anew from the log's first event, beside those that serve until then.

    Safe while the server runs. Exit code 1 if an event stops one.
    """
    loaded = load_config(config)
    if not open_room(loaded).is_open_for_bulk():
        raise NoRoomError(
            "the disk is too full to build read models anew (min_free_disk_for_batches_bytes); "
            "free some space first"
        )
    with open_log(loaded) as log, open_read_models(loaded, log) as models:
        _rebuild(models, names or [], log.head().position)
        found = models.statuses()
    if as_json:
        print_json({"projections": found})
    else:
        _print_statuses(found)
    if any(one.stopped_error for one in found):
        raise typer.Exit(1)


def _rebuild(models: ReadModels, names: list[str], end: int) -> None:
    # The registry must know the program's projections before one can get a successor.
    models.runner.run_cycle()
    for name in names or [one.name for one in models.statuses() if one.is_serving]:
        models.runner.rebuild(name)
    with progress_bar() as bar:
        task = bar.add_task("events", total=end)
        while models.runner.run_cycle():
            bar.update(task, completed=min(one.position for one in models.statuses()))
