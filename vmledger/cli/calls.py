"""Hand a recorded call to the running server, and list the calls that it took.

Source: claims 1 and 12; RFC 4458 for the statuses.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ledger.errors import CallerError
from ledger.events import CallStatus
from ledger.ids import MailboxAddress
from vmledger.cli.api_client import ApiClient, connect, path_of
from vmledger.cli.options import ConfigOption, JsonOption, TokenOption, UrlOption
from vmledger.cli.output import print_json, print_table, show_caller, show_duration, show_time

CONTENT_TYPES: Final = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".ulaw": "audio/PCMU;rate=8000",
    ".ul": "audio/PCMU;rate=8000",
    ".pcmu": "audio/PCMU;rate=8000",
    ".alaw": "audio/PCMA;rate=8000",
    ".al": "audio/PCMA;rate=8000",
    ".pcma": "audio/PCMA;rate=8000",
}
"""What a file's ending says of its content."""


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    app.command("call")(call)
    app.command("calls")(calls)


def call(
    *,
    to: Annotated[str, typer.Option("--to", help="The called extension, or extension@context.")],
    status: Annotated[
        CallStatus, typer.Option("--status", help="What became of the call, as the switch says it.")
    ],
    caller: Annotated[
        str | None, typer.Option("--from", help="The calling number; withheld if not given.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The caller's name.")] = None,
    audio: Annotated[
        Path | None,
        typer.Option("--audio", help="The recording.", exists=True, dir_okay=False, readable=True),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(
            "--content-type", help="What the recording is.", show_default="by the file's ending"
        ),
    ] = None,
    call_id: Annotated[
        uuid.UUID | None,
        typer.Option("--call-id", help="A UUID of yours, so that a repeat does no harm."),
    ] = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Report a call, and hand over what the caller said.

    The answer comes when the message is on disk. Repeat a failed one with the same --call-id.
    """
    media_type = media_type_of(audio, content_type) if audio else None
    mailbox = MailboxAddress.parse(to)
    api = connect(config, url, token)
    report = {
        "called_extension": mailbox.extension,
        "context": mailbox.context,
        "status": status.value,
        "caller_number": caller,
        "caller_name": name,
        "call_id": call_id,
    }
    decision = api.send("POST", "/v1/calls", {k: v for k, v in report.items() if v is not None})
    message = None
    if decision["transfer"] and audio is not None and media_type is not None:
        message = hand_over(api, decision["call_id"], audio, media_type)
    if as_json:
        print_json({"decision": decision, "message": message})
    else:
        print(_say(decision, message))


def hand_over(api: ApiClient, call_id: str, audio: Path, media_type: str) -> Any:
    """Upload a recording; gives what the server says of the stored message."""
    with audio.open("rb") as recording:
        headers = {"Content-Type": media_type, "Content-Length": str(audio.stat().st_size)}
        path = path_of("calls", call_id, "recording")
        return api.request("PUT", path, recording, headers).json()


def media_type_of(audio: Path, content_type: str | None) -> str:
    """Say what a file is: as it was given, else by its ending. Raises CallerError."""
    found = content_type or CONTENT_TYPES.get(audio.suffix.lower())
    if found is None:
        raise CallerError(
            f"the ending of {audio} does not say what it is; "
            "give --content-type, for instance audio/wav"
        )
    return found


def _say(decision: dict[str, Any], message: dict[str, Any] | None) -> str:
    call_id = decision["call_id"]
    if not decision["transfer"]:
        return f"handled normally ({decision['reason']}); call {call_id}"
    if message is None:
        return (
            f"to voicemail of {decision['mailbox']} ({decision['reason']}), home "
            f"{decision['home']}; no recording was given; call {call_id}"
        )
    place = (
        f"kept at {message['custody']} until {message['home']} is available"
        if message["is_pending"]
        else f"at its home {message['custody']}"
    )
    return (
        f"message {message['message_id']} for {message['mailbox']} is stored, {place} "
        f"({show_duration(message['duration_ms'])}); call {call_id}"
    )


def calls(
    *,
    extension: Annotated[
        str | None, typer.Option("--to", help="Only calls for this extension.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 50,
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the calls that this server took, the newest first, with the reason of each decision."""
    page = connect(config, url, token).get("/v1/calls", extension=extension, limit=limit)
    if as_json:
        print_json(page)
        return
    print_table(
        ("received", "from", "to", "status", "reason", "home", "outcome", "call"),
        (
            (
                show_time(c.get("received_at")),
                show_caller(c, "caller_number"),
                c.get("called_extension"),
                c.get("status"),
                c.get("reason"),
                c.get("home"),
                c.get("outcome"),
                c.get("call_id"),
            )
            for c in page["calls"]
        ),
        if_empty=f"no call for {extension} is known here"
        if extension
        else "no call was taken here yet",
    )
