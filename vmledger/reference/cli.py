"""Write the reference page of the command line from the commands themselves."""

from __future__ import annotations

import typer
from typer.cli import get_docs_for_click

from vmledger.main import app

_INTRODUCTION = """\
This page is written by the program itself (`make docs`).

Exit codes: 0 all is well; 1 a negative finding (not found, refused, damaged, no server answers);
2 wrong usage (arguments, a configuration that is refused, a token without the right); 130 after
Ctrl-C. Errors are one sentence on standard error.

Commands about calls, messages and peers talk to the running server; `log`, `replay`, `blobs`,
`projections`, `token`, `config` and `doctor` open its stores themselves and are safe beside it.
"""


def page() -> str:
    """Give the page."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(
        obj=command, ctx=typer.Context(command), name="vmledger", title="The command line"
    )
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{_INTRODUCTION}\n{rest.strip()}\n"


if __name__ == "__main__":
    print(page(), end="")
