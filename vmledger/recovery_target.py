"""The stores that a lost server is recovered into.

Source: claims 5, 8 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ledger.configuration import Configuration
from ledger.migration.log_source import LogTarget
from ledger.storage.open_blob_store import open_blob_store
from ledger.storage.open_recorder import open_recorder
from ledger.storage.sql_cosigned_checkpoints import SqlCosignedCheckpoints
from vmledger.recovery_folder import RecoveryFolder


@contextmanager
def open_target(config: Configuration, folder: RecoveryFolder) -> Iterator[LogTarget]:
    """Open the stores of a configuration, to recover into them."""
    recorder = open_recorder(config.stores.events)
    cosigned = SqlCosignedCheckpoints(config.stores.events)
    try:
        yield LogTarget(
            of=config.server,
            public_key=config.directory.own.public_key,
            recorder=recorder,
            blobs=open_blob_store(config.stores.blobs),
            cosigned=cosigned,
            checkpoint=folder.checkpoint,
        )
    finally:
        cosigned.close()
        recorder.close()
