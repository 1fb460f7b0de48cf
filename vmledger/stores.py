"""Open a server's stores beside it, for the commands that look at them without asking it.

The database libraries are imported where a store is opened: they take a second, and most commands
need none.

Source: claim 10.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ledger.clock import SystemClock
from ledger.configuration import Configuration
from ledger.errors import NotFoundError
from ledger.storage.cosigned_checkpoints import CosignedCheckpoints
from ledger.storage.disk_room import DiskRoom
from ledger.storage.event_log import LogRecorder

if TYPE_CHECKING:
    import sqlalchemy as sa

    from ledger.storage.callers import Callers
    from ledger.storage.vault import Vault
    from vmledger.read_models import ReadModels
    from vmledger.tokens import TokenStore

_POOL_TIMEOUT_S: Final = 5.0
"""How long a request waits for a connection before it is asked to come back."""


@contextlib.contextmanager
def open_log(config: Configuration) -> Iterator[LogRecorder]:
    """Open the log of a configuration, and close it again.

    Raises NotFoundError for a file that is not there: who looks must not begin an empty log.
    """
    from ledger.storage.open_recorder import log_file, open_recorder

    file = log_file(config.stores.events)
    if file is not None and not file.exists():
        raise NotFoundError(
            f"there is no log in {file}; see whether its disk is mounted, and whether [store] "
            "events names the right file; 'vmledger backup restore' or 'vmledger recover' bring "
            "back a log that is lost"
        )
    recorder = open_recorder(config.stores.events)
    try:
        yield recorder
    finally:
        recorder.close()


def open_callers(config: Configuration, log: LogRecorder) -> Callers:
    """Read who called, with the keys that stand beside a log that is open.

    Raises CallerError when the server's master key cannot be read.
    """
    from ledger.storage.callers import Callers

    return Callers(open_vault(config, log))


def open_vault(config: Configuration, log: LogRecorder) -> Vault:
    """Open the keys that stand beside a log that is open.

    Raises CallerError when the server's master key cannot be read.
    """
    from ledger.configuration.master_key import open_master_key
    from ledger.storage.vault import Vault

    return Vault(log, open_master_key(config.identity), os.urandom)


def token_engine(url: str) -> sa.Engine:
    """Open the database of the access tokens: they stand beside the events."""
    import sqlalchemy as sa

    from ledger.storage.open_recorder import sqlalchemy_url
    from ledger.storage.postgres_patience import patience

    parsed = sqlalchemy_url(url)
    is_sqlite = parsed.drivername == "sqlite"
    return sa.create_engine(
        parsed,
        pool_size=2,
        max_overflow=2,
        pool_timeout=_POOL_TIMEOUT_S,
        pool_pre_ping=not is_sqlite,
        connect_args={} if is_sqlite else patience(url),
    )


@contextlib.contextmanager
def open_tokens(config: Configuration) -> Iterator[TokenStore]:
    """Open the access tokens, which stand beside the events."""
    from ledger.storage.open_recorder import upgrade
    from vmledger.tokens import TokenStore

    upgrade(config.stores.events)
    engine = token_engine(config.stores.events)
    try:
        yield TokenStore(engine, SystemClock())
    finally:
        engine.dispose()


@contextlib.contextmanager
def open_checkpoints(config: Configuration) -> Iterator[CosignedCheckpoints]:
    """Open the co-signed checkpoints, which stand beside the events; their schema must be there."""
    from ledger.storage.sql_cosigned_checkpoints import SqlCosignedCheckpoints

    store = SqlCosignedCheckpoints(config.stores.events)
    try:
        yield store
    finally:
        store.close()


def open_room(config: Configuration) -> DiskRoom:
    """Look after the file systems that hold a server's data: its log, its recordings, the rest."""
    from ledger.storage.open_blob_store import blob_directory
    from ledger.storage.open_recorder import log_file

    blobs, log = blob_directory(config.stores.blobs), log_file(config.stores.events)
    others = [place for place in (blobs, log.parent if log else None) if place and place.is_dir()]
    return DiskRoom([config.data, *others], config.limits)


@contextlib.contextmanager
def open_read_models(config: Configuration, log: LogRecorder) -> Iterator[ReadModels]:
    """Open the read models without their thread; ``log`` stays the caller's to close."""
    from vmledger.read_models import ReadModels

    models = ReadModels(config, log, SystemClock(), open_room(config))
    try:
        yield models
    finally:
        models.close()


def make_stores(config: Configuration) -> None:
    """Make a new server's stores, and the token of the command line on its own machine."""
    from ledger.storage.open_recorder import upgrade
    from vmledger.tokens import ensure_local_operator_token

    upgrade(config.stores.events)
    with open_log(config), open_tokens(config) as tokens:
        ensure_local_operator_token(config.data, tokens)
