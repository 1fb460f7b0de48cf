"""Show, export and change single messages.

The custodian changes a message: while it waits here for its home, this server; then its home.

Source: claims 7 and 11.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ledger.errors import CallerError, NotFoundError
from ledger.events import AccessKind
from vmledger.cli.api_client import ApiClient, connect, path_of
from vmledger.cli.message_story import expect_story, print_story, story, write_picture
from vmledger.cli.options import (
    ConfigOption,
    JsonOption,
    MessageId,
    TokenOption,
    UrlOption,
    load_config,
    read_file,
)
from vmledger.cli.output import (
    print_facts,
    print_json,
    show_caller,
    show_duration,
    show_size,
    show_time,
)
from vmledger.stores import open_log, open_vault

FORMATS: Final = {
    "original": "audio/original",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(help="Show, export and change one message.", no_args_is_help=True)
    group.command("show")(show)
    group.command("story")(story)
    group.command("export")(export)
    group.command("open")(open_file)
    for name, status, help_text in (
        ("heard", "heard", "Mark a message as heard."),
        ("save", "saved", "Mark a message as saved."),
        ("delete", "deleted", "Move a message to the trash; it can be restored."),
        ("restore", "restored", "Take a message out of the trash."),
    ):
        group.command(name, help=help_text)(_change_to(status))
    group.command("requeue")(requeue)
    app.add_typer(group, name="message")


def show(
    *,
    message_id: MessageId,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Also draw the story into this new file.")
    ] = None,
    wait_s: Annotated[
        float,
        typer.Option("--wait", min=0, max=30, help="Seconds to wait for servers that are away."),
    ] = 3.0,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one message, and its whole story across all servers that it touched.

    A server that does not answer is named: its part of the story is missing then.
    """
    api = connect(config, url, token)
    story = api.get(path_of("messages", message_id, "story"), wait_s=wait_s)
    found = _find_here(api, message_id)
    expect_story(story)
    if svg is not None:
        write_picture(svg, story)
    if as_json:
        print_json(found | {"story": story})
        return
    if len(found) > 1:
        _print_message(found)
    print_story(story)


def _find_here(api: ApiClient, message_id: object) -> dict[str, Any]:
    """Give the message as its mailbox shows it; only its id when another server answers for it."""
    try:
        found: dict[str, Any] = api.get(path_of("messages", message_id))
    except NotFoundError:
        return {"message_id": str(message_id)}
    return found


def _print_message(found: dict[str, Any]) -> None:
    waits = " (waits for its home)" if found.get("is_pending") else ""
    print_facts(
        (
            ("message", found.get("message_id")),
            ("call", found.get("call_id")),
            ("mailbox", found.get("mailbox")),
            ("status", found.get("status")),
            ("custody", f"{found.get('custody')}{waits}"),
            ("taken at", found.get("origin")),
            ("from", show_caller(found, "caller_number")),
            ("name", found.get("caller_name")),
            ("received", show_time(found.get("received_at"))),
            ("delivered", show_time(found.get("delivered_at"))),
            ("heard", show_time(found.get("heard_at"))),
            ("length", show_duration(found.get("duration_ms"))),
            ("size", show_size(found.get("size_bytes"))),
            ("codec", found.get("codec")),
            ("sha-256", found.get("digest")),
        )
    )


def export(
    *,
    message_id: MessageId,
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
    """Write a message's sound to a file; bit for bit what was received, unless asked otherwise."""
    if form not in FORMATS:
        raise CallerError(f"there is no format {form!r}; choose one of {', '.join(FORMATS)}")
    write_sound(
        to, lambda: read_audio(connect(config, url, token), message_id, FORMATS[form]), force=force
    )


def open_file(
    file: Annotated[Path, typer.Argument(help="A recording's file.")],
    *,
    to: Annotated[
        Path | None, typer.Option("--to", "-o", help="File to write; - is standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    config: ConfigOption = None,
) -> None:
    """Write what was received of a recording, from its file: one that was set aside, say.

    With the keys of this server, and without asking a running one. Of a file that is cut, what is
    whole.
    """
    # Here, not above: they take a second to import.
    from ledger.storage.sealed_recording import open_prefix  # noqa: PLC0415
    from vmledger.local_access import record_local_access  # noqa: PLC0415

    loaded, data = load_config(config), read_file(file)
    with open_log(loaded) as recorder:
        received, is_cut = open_prefix(data, open_vault(loaded, recorder).key)
        if not received:
            raise CallerError(f"{file} holds no recording, or nothing of one")
        record_local_access(recorder, loaded.server, AccessKind.EXPORTED, f"file {file.name}")
    write_sound(to, lambda: received, force=force)
    if is_cut:
        print(f"{file} is cut: this is what is whole of it", file=sys.stderr)


def write_sound(to: Path | None, read: Callable[[], bytes], *, force: bool) -> None:
    """Write a sound to a file, or to standard output; it is read when it is sure to be wanted."""
    if to is None and sys.stdout.isatty():
        raise CallerError("sound does not go to a terminal; name a file with --to FILE")
    sound = read()
    if to is None or str(to) == "-":
        sys.stdout.buffer.write(sound)
        return
    _write(to, sound, force=force)
    print(f"wrote {len(sound)} bytes to {to}", file=sys.stderr)


def read_audio(api: ApiClient, message_id: object, accept: str) -> bytes:
    """Read a message's sound in the form that is asked for; that it was heard is not recorded."""
    found = api.get(path_of("messages", message_id))
    extension, _, context = str(found["mailbox"]).partition("@")
    path = path_of("mailboxes", extension, "messages", message_id, "audio")
    return api.request("GET", f"{path}?context={context}", headers={"Accept": accept}).body


def _write(path: Path, sound: bytes, *, force: bool) -> None:
    # Others of this machine have no business with what callers say.
    mode = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(path, mode, 0o600), "wb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                os.fchmod(file.fileno(), 0o600)  # one that was there has a mode of its own
            file.write(sound)
    except FileExistsError:
        raise CallerError(f"{path} exists; give another name or --force") from None


def _change_to(status: str) -> Any:
    def change(
        message_id: MessageId,
        config: ConfigOption = None,
        url: UrlOption = None,
        token: TokenOption = None,
        as_json: JsonOption = False,
    ) -> None:
        api = connect(config, url, token)
        found = api.get(path_of("messages", message_id))
        extension, _, context = str(found["mailbox"]).partition("@")
        path = path_of("mailboxes", extension, "messages", message_id)
        changed = api.send("PATCH", f"{path}?context={context}", {"status": status})
        if as_json:
            print_json(changed)
        else:
            print(f"message {message_id} is {changed['status']}")

    return change


def requeue(
    message_id: MessageId,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Ship a held or refused message again, to the home that the configuration names now."""
    connect(config, url, token).send("POST", path_of("messages", message_id, "requeue"))
    print(f"message {message_id} is queued for its home again")
