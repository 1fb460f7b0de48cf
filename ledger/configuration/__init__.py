"""The configuration module: who is home to which extension, where it is, and how this server works.

`load_configuration` reads ``vmledger.toml`` and either gives a `Configuration` in which everything
is checked and resolved, or raises a `ConfigurationError` that lists every problem with its line.
Files: ``schema`` declares and documents the keys, ``reading`` turns tables into them, ``patterns``
and ``directory`` decide who is home, ``homes`` adds what the log knows of moves, ``loading`` joins
it all, ``checks`` looks at the machine.

Source: claims 6 and 13.
"""

from ledger.configuration import schema
from ledger.configuration.bandwidth import UNLIMITED, BandwidthPlan, Hours, parse_hours
from ledger.configuration.configuration import (
    Address,
    ApiTls,
    Configuration,
    IdentityFiles,
    Stores,
    parse_address,
)
from ledger.configuration.directory import Directory, ServerEntry, parse_claim
from ledger.configuration.homes import Homes
from ledger.configuration.loading import load_configuration
from ledger.configuration.patterns import Claim, Pattern, parse_pattern
from ledger.configuration.problems import ConfigurationError
from ledger.configuration.rules import is_peer_url
from ledger.configuration.schema import (
    Calls,
    Limits,
    Listen,
    Mailboxes,
    Profiles,
    Replication,
    Retention,
)

__all__ = [
    "UNLIMITED",
    "Address",
    "ApiTls",
    "BandwidthPlan",
    "Calls",
    "Claim",
    "Configuration",
    "ConfigurationError",
    "Directory",
    "Homes",
    "Hours",
    "IdentityFiles",
    "Limits",
    "Listen",
    "Mailboxes",
    "Pattern",
    "Profiles",
    "Replication",
    "Retention",
    "ServerEntry",
    "Stores",
    "is_peer_url",
    "load_configuration",
    "parse_address",
    "parse_claim",
    "parse_hours",
    "parse_pattern",
    "schema",
]
