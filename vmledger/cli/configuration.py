"""Check a configuration, and print what the other servers need to know of this one.

Source: claims 6 and 13.
"""

from __future__ import annotations

import typer

from vmledger.cli.options import ConfigOption, JsonOption, load_config
from vmledger.cli.output import print_facts, print_json
from vmledger.init import servers_block


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    group = typer.Typer(help="Check the configuration; show it to others.", no_args_is_help=True)
    group.command("check")(check)
    group.command("peers")(peers)
    app.add_typer(group, name="config")


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Read the configuration as the server would, and say what is wrong with it.

    Exit code 2 for one that the server would refuse.
    """
    loaded = load_config(config)
    facts = {
        "file": str(loaded.file),
        "server": loaded.server,
        "data": str(loaded.data),
        "events": _without_password(loaded.stores.events),
        "projections": _without_password(loaded.stores.projections),
        "blobs": loaded.stores.blobs,
        "api": loaded.listen.api,
        "replication": loaded.listen.replication,
        "peers": [peer.id for peer in loaded.directory.peers],
    }
    if as_json:
        print_json(facts)
        return
    print_facts({**facts, "peers": ", ".join(p.id for p in loaded.directory.peers)}.items())
    print("the configuration is fine")


def _without_password(url: str) -> str:
    """Give a database's address as it may be shown."""
    scheme, _, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{at}{place}"


def peers(config: ConfigOption = None) -> None:
    """Print the [[servers]] block that the other servers' configurations need of this one."""
    print(servers_block(load_config(config)))
