"""The program ``vmledger``: its commands, and how it ends.

Every command says what it found in its exit code: 0 fine, 1 a negative finding (something is
missing, damaged, refused, or no server answers), 2 wrong usage (a wrong argument, a doubtful
configuration, a token without the right). An error is one sentence on standard error; nobody is
shown a traceback. Ctrl-C ends a command with 130, as shells expect.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from ledger.errors import LedgerError
from vmledger import cli
from vmledger.cli.errors import USAGE, exit_code_of
from vmledger.cli.options import CONFIG_VARIABLE

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""
OBJECTS_A_COLLECTION: Final = 10_000
"""New ones, before Python looks for garbage among them. Servers need no more memory by it."""

TOPICS: Final = {
    "servers": ("init", "serve", "demo", "servers"),
    "calls": ("call", "calls"),
    "mailboxes": ("mailbox", "pending"),
    "messages": ("message",),
    "profiles": ("greeting", "pin"),
    "log": ("log",),
    "replay": ("replay",),
    "audit": ("audit",),
    "export": ("export",),
    "erase": ("erase",),
    "retention": ("retention",),
    "projections": ("projections",),
    "blobs": ("blobs",),
    "backups": ("backup",),
    "archives": ("archive",),
    "recover": ("recover",),
    "configuration": ("config",),
    "tokens": ("token",),
    "doctor": ("doctor",),
}
"""The modules of `vmledger.cli`, and the commands that each of them adds."""


class _Commands(TyperGroup):
    """All commands. A topic is read when one of its commands is wanted: a start needs only one."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the name is the library's
        return [command for commands in TOPICS.values() for command in commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            holders = [topic for topic, commands in TOPICS.items() if cmd_name in commands]
            for topic in holders or TOPICS:  # all of them for a word that is like a command
                self.commands.update(_read_topic(topic))
        return super().get_command(ctx, cmd_name)


def _read_topic(name: str) -> Mapping[str, Any]:
    topic = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    import_module(f"{cli.__name__}.{name}").register(topic)
    return typer.main.get_group(topic).commands


app = typer.Typer(
    name="vmledger",
    cls=_Commands,
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


def main() -> None:
    """Run the command line and end the process."""
    # What a program loads is no garbage: to look for some every 700 objects is a tenth of a start.
    gc.set_threshold(OBJECTS_A_COLLECTION)
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
