"""Open a server's stores beside it, for the commands that look at them without asking it.

Source: claim 10.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa

from ledger.clock import SystemClock
from ledger.configuration import Configuration
from ledger.storage.event_log import LogRecorder
from ledger.storage.open_recorder import open_recorder, sqlalchemy_url, upgrade
from ledger.storage.schema import ACCESS_TOKEN
from vmledger.tokens import TokenStore, ensure_local_operator_token


@contextlib.contextmanager
def open_log(config: Configuration) -> Iterator[LogRecorder]:
    """Open the log of a configuration, and close it again."""
    recorder = open_recorder(config.stores.events)
    try:
        yield recorder
    finally:
        recorder.close()


@contextlib.contextmanager
def open_tokens(config: Configuration) -> Iterator[TokenStore]:
    """Open the access tokens, which stand beside the events."""
    upgrade(config.stores.events)
    engine = sa.create_engine(sqlalchemy_url(config.stores.events))
    try:
        yield TokenStore(engine, ACCESS_TOKEN, SystemClock())
    finally:
        engine.dispose()


def make_stores(config: Configuration) -> None:
    """Make a new server's stores, and the token of the command line on its own machine."""
    with open_log(config), open_tokens(config) as tokens:
        ensure_local_operator_token(config.data, tokens)
