"""Make a server, run it, see it with others in a demonstration, and list the ones it knows.

Source: claims 6, 8, 13 and 15.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.configuration import Listen
from vmledger.cli.api_client import connect
from vmledger.cli.options import (
    ConfigOption,
    JsonOption,
    TokenOption,
    UrlOption,
    find_config,
    load_config,
)
from vmledger.cli.output import print_json, print_table, show_size, show_time
from vmledger.cli.went_back import read_went_back, tell_went_back
from vmledger.init import init_server
from vmledger.stores import make_stores


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    app.command("init")(init)
    app.command("serve")(serve)
    app.command("demo")(demo)
    app.command("servers")(servers)


def init(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")],
    server: Annotated[str, typer.Option("--server", metavar="ID", help="The server's name.")],
    extensions: Annotated[
        list[str] | None,
        typer.Option(
            "--extension",
            help='Mailboxes that live here: "2000-2999", "30*" or "4711"; several times for more.',
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="How other servers reach it.",
            show_default="https://, this machine's name and the replication port",
        ),
    ] = None,
    api: Annotated[
        str, typer.Option("--api", metavar="HOST:PORT", help="Where the HTTP API listens.")
    ] = Listen().api,
    replication: Annotated[
        str,
        typer.Option("--replication", metavar="HOST:PORT", help="Where the other servers connect."),
    ] = Listen().replication,
    as_json: JsonOption = False,
) -> None:
    """Write a working configuration, keys, and empty stores. Never overwrites anything."""
    made = init_server(
        directory,
        server,
        extensions=extensions or (),
        url=url,
        listen=Listen(api=api, replication=replication),
    )
    make_stores(load_config(made.configuration_file))
    if as_json:
        print_json(
            {
                "server": server,
                "configuration": str(made.configuration_file),
                "files": [str(file) for file in made.files],
                "servers_block": made.servers_block,
            }
        )
        return
    print(f"server {server} is ready: vmledger serve --config {made.configuration_file}")
    print("\nThe configurations of the other servers need this of it:\n")
    print(made.servers_block)


def serve(
    config: ConfigOption = None,
    log_format: Annotated[
        str, typer.Option("--log-format", help="text for people, json for machines.")
    ] = "text",
) -> None:
    """Run one server until SIGTERM or Ctrl-C."""
    # Here, not above: the web framework takes half a second that other commands need not wait.
    from vmledger.app import run  # noqa: PLC0415

    run(find_config(config), log_format=log_format)


def demo(
    as_json: JsonOption = False,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Keep the three servers' stores here."),
    ] = None,
) -> None:
    """Run three servers; one dies, calls come in, it returns. Shows every step and checks it.

    Takes some seconds and leaves nothing behind. Exit code 1 if any promise did not hold.
    """
    from vmledger.demo.run import run_demo  # noqa: PLC0415 - the same reason

    is_kept = run_demo(as_json=as_json, keep=keep)
    if not is_kept:
        raise typer.Exit(1)


def servers(
    config: ConfigOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the servers that this one knows, and what it believes of them."""
    answer = connect(config, url, token).get("/v1/servers")
    if as_json:
        print_json(answer)
        return
    print_table(
        (
            "server",
            "state",
            "since",
            "last receipt",
            "#up to position",
            "#safe up to",
            "#witnessed up to",
            "history",
            "mirror",
            "#limit a second",
        ),
        (
            (
                s["id"],
                "(this one)" if s.get("is_self") else s.get("state"),
                show_time(s.get("since")),
                show_time(s.get("receipt_at")),
                s.get("receipt_position"),
                s.get("safe_position"),
                s.get("witnessed_position"),
                _show_history(s),
                _show_mirror(s),
                show_size(s.get("send_limit_bytes_per_s")),
            )
            for s in answer["servers"]
        ),
        if_empty="this server knows no other",
    )
    if answer.get("went_back") is not None:
        print("\nthis log went back: " + tell_went_back(read_went_back(answer["went_back"])))


def _show_history(server: dict[str, Any]) -> str:
    """Say whether a server's log was seen to have one history only."""
    if server.get("is_self"):
        return ""
    if (at := server.get("fork_witnessed_at")) is not None:
        return f"FORKED, seen {show_time(at)}"
    if (at := server.get("went_back_at")) is not None:
        return f"went back, seen {show_time(at)}"
    return "one"


def _show_mirror(server: dict[str, Any]) -> str:
    """Say how far the copies are: of this log there, and of its log here."""
    told = []
    if (mirror := server.get("mirror")) is not None:
        if mirror.get("acknowledged_at") is None:
            told.append("has NOT asked for our log")
        else:
            told.append(f"lacks {mirror['lag_events']} of our events")
    if (copy := server.get("copy")) is not None:
        missing = copy["missing_recordings"]
        told.append(
            f"NOT copied here: {copy['problem']}"
            if copy["problem"]
            else f"we lack {copy['lag_events']} of its events"
            + (f" and {missing} recordings" if missing else "")
        )
    return "; ".join(told)
