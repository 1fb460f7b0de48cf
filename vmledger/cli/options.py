"""Options that many commands share, and what they stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, TypeAlias
from uuid import UUID

import typer

from ledger.configuration import Configuration, load_configuration
from ledger.errors import CallerError

CONFIG_VARIABLE: Final = "VMLEDGER_CONFIG"
DEFAULT_CONFIG: Final = "vmledger.toml"

ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The server's configuration file.",
        show_default="$VMLEDGER_CONFIG, or ./vmledger.toml",
    ),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of text for people.")
]
UrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The server to talk to.",
        show_default="the configuration's [listen] api",
    ),
]
TokenOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--token",
        help="The access token.",
        envvar="VMLEDGER_TOKEN",
        show_default="the server's own operator.token",
    ),
]

MessageId: TypeAlias = Annotated[UUID, typer.Argument(metavar="ID", help="The message.")]


def find_config(option: Path | None) -> Path:
    """Say which configuration file is meant: option, environment, or the file right here.

    Raises CallerError when there is none.
    """
    path = option or Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)
    if not path.is_file():
        raise CallerError(
            f"there is no configuration file {path}; name it with --config or $VMLEDGER_CONFIG, "
            "or make a server with 'vmledger init DIR --server ID'"
        )
    return path


def load_config(option: Path | None) -> Configuration:
    """Load the configuration that is meant; raises CallerError for one that is doubtful."""
    return load_configuration(find_config(option))


def read_file(path: Path) -> bytes:
    """Read a file that the user named; raises CallerError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CallerError(f"{path} cannot be read: {error.strerror}") from error
