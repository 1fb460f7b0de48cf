"""Open a server's stores beside it, for the commands that look at them without asking it.

The database libraries are imported where a store is opened: they take a second, and most commands
need none.

Source: claim 10.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ledger.clock import SystemClock
from ledger.configuration import Configuration
from ledger.storage.event_log import LogRecorder

if TYPE_CHECKING:
    from vmledger.read_models import ReadModels
    from vmledger.tokens import TokenStore


@contextlib.contextmanager
def open_log(config: Configuration) -> Iterator[LogRecorder]:
    """Open the log of a configuration, and close it again."""
    from ledger.storage.open_recorder import open_recorder

    recorder = open_recorder(config.stores.events)
    try:
        yield recorder
    finally:
        recorder.close()


@contextlib.contextmanager
def open_tokens(config: Configuration) -> Iterator[TokenStore]:
    """Open the access tokens, which stand beside the events."""
    import sqlalchemy as sa

    from ledger.storage.open_recorder import sqlalchemy_url, upgrade
    from vmledger.tokens import TokenStore

    upgrade(config.stores.events)
    engine = sa.create_engine(sqlalchemy_url(config.stores.events))
    try:
        yield TokenStore(engine, SystemClock())
    finally:
        engine.dispose()


@contextlib.contextmanager
def open_read_models(config: Configuration, log: LogRecorder) -> Iterator[ReadModels]:
    """Open the read models without their thread; ``log`` stays the caller's to close."""
    from vmledger.read_models import ReadModels

    models = ReadModels(config, log, SystemClock())
    try:
        yield models
    finally:
        models.close()


def make_stores(config: Configuration) -> None:
    """Make a new server's stores, and the token of the command line on its own machine."""
    from vmledger.tokens import ensure_local_operator_token

    with open_log(config), open_tokens(config) as tokens:
        ensure_local_operator_token(config.data, tokens)
