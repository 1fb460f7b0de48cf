"""The program ``vmledger``: its commands, and how it ends.

Every command says what it found in its exit code: 0 fine, 1 a negative finding (something is
missing, damaged, refused, or no server answers), 2 wrong usage (a wrong argument, a doubtful
configuration, a token without the right). An error is one sentence on standard error; nobody is
shown a traceback. Ctrl-C ends a command with 130, as shells expect.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.errors import LedgerError
from vmledger.cli import (
    archives,
    audit,
    backups,
    blobs,
    calls,
    configuration,
    doctor,
    erase,
    export,
    log,
    mailboxes,
    messages,
    profiles,
    projections,
    recover,
    replay,
    retention,
    servers,
    tokens,
)
from vmledger.cli.errors import USAGE, exit_code_of
from vmledger.cli.options import CONFIG_VARIABLE

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

app = typer.Typer(
    name="vmledger",
    help="A replicated voicemail ledger: no accepted message is lost, none is doubled, and "
    "everything can be replayed.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"vmledger {metadata.version('voicemail-ledger')}")
        raise typer.Exit


@app.callback()
def _root(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="The server's configuration file. Every command takes this option as well.",
            show_default="$VMLEDGER_CONFIG, or ./vmledger.toml",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    if config is not None:
        # The commands look there; so does every process that they start.
        os.environ[CONFIG_VARIABLE] = str(config)


for topic in (
    servers,
    calls,
    mailboxes,
    messages,
    profiles,
    log,
    replay,
    audit,
    export,
    erase,
    retention,
    projections,
    blobs,
    backups,
    archives,
    recover,
    configuration,
    tokens,
    doctor,
):
    topic.register(app)


def main() -> None:
    """Run the command line and end the process."""
    sys.exit(run(lambda: app(prog_name="vmledger", standalone_mode=False)))


def run(command: Callable[[], object]) -> int:
    """Run a command; turn whatever it raises into one sentence and an exit code."""
    try:
        return _code(command())
    except typer.TyperException as error:
        return _refuse(error)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except LedgerError as error:
        return _fail(str(error), exit_code_of(error))
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        return _fail(f"the system refuses: {error.strerror or error}{place}", 1)


def _code(result: object) -> int:
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _refuse(error: typer.TyperException) -> int:
    """Explain wrong usage; a group without a command gets its help instead."""
    message = error.format_message()
    if message.lstrip().startswith("Usage:"):
        print(message, file=sys.stderr)
        return USAGE
    context = getattr(error, "ctx", None)
    where = f"; see '{context.command_path} --help'" if context else ""
    return _fail(f"{message.rstrip('.')}{where}", USAGE)


def _fail(sentence: str, code: int) -> int:
    print(f"vmledger: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
