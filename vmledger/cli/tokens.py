"""Make, list and revoke access tokens, directly in the store, beside the server if it runs.

Source: RFC 6750.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ledger.ids import MailboxAddress
from vmledger.access import Scope
from vmledger.cli.options import ConfigOption, JsonOption, load_config
from vmledger.cli.output import print_json, print_table, show_time
from vmledger.stores import open_tokens

if TYPE_CHECKING:
    from vmledger.tokens import TokenStore


_MOST_DAYS: Final = 36_500
"""A hundred years: what is meant to be for ever has no end at all."""


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(help="Access tokens of the HTTP API.", no_args_is_help=True)
    group.command("create")(create)
    group.command("list")(list_tokens)
    group.command("revoke")(revoke)
    app.add_typer(group, name="token")


@contextlib.contextmanager
def _tokens(config: Path | None) -> Iterator[TokenStore]:
    with open_tokens(load_config(config)) as tokens:
        yield tokens


def create(
    *,
    name: Annotated[str, typer.Argument(help="Who or what it is for.")],
    scopes: Annotated[
        list[Scope], typer.Option("--scope", help="What it may do; give it several times for more.")
    ],
    mailboxes: Annotated[
        list[str] | None,
        typer.Option("--mailbox", help="Which mailboxes an owner has; may be given several times."),
    ] = None,
    expires_in_days: Annotated[
        float | None,
        typer.Option(
            "--expires-in-days",
            min=0,
            max=_MOST_DAYS,
            help="It ends by itself.",
            show_default="never",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it. It is shown this once: only its digest is kept."""
    addresses = [MailboxAddress.parse(mailbox) for mailbox in mailboxes or ()]
    valid_for = timedelta(days=expires_in_days) if expires_in_days is not None else None
    with _tokens(config) as tokens:
        token = tokens.create(name, scopes, mailboxes=addresses, valid_for=valid_for)
    if as_json:
        print_json({"name": name, "token": token})
    else:
        print(token)


def list_tokens(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List all tokens that were made, revoked ones too; never the secrets."""
    with _tokens(config) as tokens:
        found = tokens.list_tokens()
    if as_json:
        print_json({"tokens": found})
        return
    print_table(
        ("id", "name", "scopes", "mailboxes", "created", "expires", "revoked"),
        (
            (
                token.id,
                token.name,
                " ".join(scope.value for scope in token.scopes),
                " ".join(token.mailboxes),
                show_time(token.created_at),
                show_time(token.expires_at),
                show_time(token.revoked_at),
            )
            for token in found
        ),
        if_empty="there is no token yet; 'vmledger token create' makes one",
    )


def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As 'token list' shows it.")],
    config: ConfigOption = None,
) -> None:
    """End a token for ever. A running server may honour it for some seconds more."""
    with _tokens(config) as tokens:
        tokens.revoke(token_id)
    print(f"token {token_id} is revoked")
