"""A mailbox's own greetings and PIN: list, record, export and remove; set, remove and check.

A PIN is never an argument: arguments stand in the shell's history and in the list of processes. It
is asked for without an echo, or read as one line from standard input.

Source: claims 9 and 11.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlencode

import typer

from ledger.errors import CallerError
from ledger.ids import MailboxAddress
from ledger.mailbox import GreetingKind
from vmledger.cli.api_client import connect, path_of
from vmledger.cli.calls import media_type_of
from vmledger.cli.errors import NEGATIVE
from vmledger.cli.messages import FORMATS, write_sound
from vmledger.cli.options import ConfigOption, JsonOption, TokenOption, UrlOption
from vmledger.cli.output import print_json, print_table, show_duration, show_size, show_time

_MOST_PIN_CHARACTERS: Final = 64

Mailbox: TypeAlias = Annotated[
    str, typer.Argument(metavar="EXT", help="Extension, or extension@context.")
]
Kind: TypeAlias = Annotated[GreetingKind, typer.Argument(help="What the greeting is for.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    greeting = typer.Typer(help="A mailbox's greetings.", no_args_is_help=True)
    greeting.command("list")(list_greetings)
    greeting.command("record")(record)
    greeting.command("export")(export)
    greeting.command("remove")(remove)
    app.add_typer(greeting, name="greeting")
    pin = typer.Typer(help="A mailbox's PIN.", no_args_is_help=True)
    pin.command("set")(set_pin)
    pin.command("remove")(remove_pin)
    pin.command("check")(check_pin)
    app.add_typer(pin, name="pin")


def _path(mailbox: str, *more: object) -> str:
    address = MailboxAddress.parse(mailbox)
    query = urlencode({"context": address.context})
    return f"{path_of('mailboxes', address.extension, *more)}?{query}"


def list_greetings(
    mailbox: Mailbox,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a mailbox's home, its greetings, and whether it has a PIN."""
    found = connect(config, url, token).get(_path(mailbox, "profile"))
    if as_json:
        print_json(found)
        return
    print_table(
        ("greeting", "#length", "#size", "codec", "recorded", "by"),
        (
            (
                g.get("kind"),
                show_duration(g.get("duration_ms")),
                show_size(g.get("size_bytes")),
                g.get("codec"),
                show_time(g.get("recorded_at")),
                g.get("recorded_by"),
            )
            for g in found["greetings"]
        ),
        if_empty=f"mailbox {found['mailbox']} has no greeting of its own",
    )
    since = show_time(found.get("pin_changed_at"))
    print(f"home {found['home']}, {f'PIN set {since}' if found['has_pin'] else 'no PIN'}")


def record(
    *,
    mailbox: Mailbox,
    kind: Kind,
    audio: Annotated[
        Path,
        typer.Option("--audio", help="The sound.", exists=True, dir_okay=False, readable=True),
    ],
    content_type: Annotated[
        str | None,
        typer.Option(
            "--content-type", help="What the sound is.", show_default="by the file's ending"
        ),
    ] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record a greeting, at the mailbox's home. It goes to every server by itself."""
    media_type = media_type_of(audio, content_type)
    path = _path(mailbox, "greetings", kind.value)
    with audio.open("rb") as sound:
        headers = {"Content-Type": media_type, "Content-Length": str(audio.stat().st_size)}
        recorded = connect(config, url, token).request("PUT", path, sound, headers).json()
    if as_json:
        print_json(recorded)
    else:
        length = show_duration(recorded["duration_ms"])
        print(f"the {kind.value} greeting of mailbox {mailbox} is recorded ({length})")


def export(
    *,
    mailbox: Mailbox,
    kind: Kind,
    to: Annotated[
        Path | None, typer.Option("--to", "-o", help="File to write; - is standard output.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="original (bit for bit), wav, mp3 or opus.")
    ] = "original",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Write a greeting's sound to a file; any server has it."""
    if form not in FORMATS:
        raise CallerError(f"there is no format {form!r}; choose one of {', '.join(FORMATS)}")
    headers = {"Accept": FORMATS[form]}
    path = _path(mailbox, "greetings", kind.value)
    write_sound(
        to,
        lambda: connect(config, url, token).request("GET", path, headers=headers).body,
        force=force,
    )


def remove(
    mailbox: Mailbox,
    kind: Kind,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Leave a mailbox without this greeting, at its home."""
    connect(config, url, token).request("DELETE", _path(mailbox, "greetings", kind.value))
    print(f"mailbox {mailbox} has no {kind.value} greeting")


def set_pin(
    mailbox: Mailbox,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Set a mailbox's PIN, at its home. The PIN is asked for, or read from standard input."""
    path, api = _path(mailbox, "pin"), connect(config, url, token)
    api.send("PUT", path, {"pin": _read_pin(confirm=True)})
    print(f"the PIN of mailbox {mailbox} is set")


def remove_pin(
    mailbox: Mailbox,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Leave a mailbox without a PIN, at its home."""
    connect(config, url, token).request("DELETE", _path(mailbox, "pin"))
    print(f"mailbox {mailbox} has no PIN")


def check_pin(
    mailbox: Mailbox,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a PIN, at any server. Exit code 1 if it is not the mailbox's.

    Wrong ones are counted, and after a few the server takes none for a while.
    """
    path, api = _path(mailbox, "pin", "check"), connect(config, url, token)
    verdict = api.send("POST", path, {"pin": _read_pin(confirm=False)})
    if as_json:
        print_json(verdict)
    else:
        print("that is the PIN" if verdict["matches"] else "that is not the PIN")
    if not verdict["matches"]:
        raise typer.Exit(NEGATIVE)


def _read_pin(*, confirm: bool) -> str:
    if sys.stdin.isatty():
        pin: str = typer.prompt("PIN", hide_input=True, confirmation_prompt=confirm, err=True)
    else:
        pin = sys.stdin.readline(_MOST_PIN_CHARACTERS + 1).rstrip("\r\n")
    if not pin or len(pin) > _MOST_PIN_CHARACTERS:
        raise CallerError("no PIN was given; type it, or write it to standard input as one line")
    return pin
