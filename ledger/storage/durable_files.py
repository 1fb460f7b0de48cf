"""Durable writes on a file system: whole writes, syncs that count, errors in our own words.

A failed sync is never tried again: the kernel may have dropped the pages, and a second sync would
report success for bytes that are gone. It is a CorruptionError, and the program stops trusting the
file. A full disk is a TransientError; the caller's file is left as the docstrings here say.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from ledger.errors import CorruptionError, LedgerError, TransientError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def translate_os_error(error: OSError, doing: str, path: Path) -> LedgerError:
    """Give our error for one of the operating system, to be raised ``from`` it."""
    if error.errno in _FULL:
        return TransientError(
            f"the disk is full, so {doing} {path} failed; free some space", retry_after_s=5.0
        )
    if error.errno == errno.EIO:
        return CorruptionError(
            f"the disk reports an error while {doing}",
            place=str(path),
            advice="check the disk, then restore from a backup or from another server",
        )
    return TransientError(f"{doing} {path} failed: {error.strerror}", retry_after_s=5.0)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, however many calls that takes. Raises OSError, perhaps half done."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_file(descriptor: int, path: Path) -> None:
    """Put a file's bytes and length on the disk. Raises CorruptionError; never try again."""
    _sync(os.fdatasync, descriptor, path)


def sync_directory(directory: Path) -> None:
    """Put a directory's names on the disk. Raises CorruptionError; never try again."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise translate_os_error(error, "opening the directory", directory) from error
    try:
        _sync(os.fsync, descriptor, directory)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make a directory below one that exists, unless it is there; its name is durable on return.

    Kept from other users: what lies below are people's messages.
    """
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise translate_os_error(error, "making the directory", directory) from error
    sync_directory(directory.parent)


def _sync(sync: Callable[[int], None], descriptor: int, path: Path) -> None:
    try:
        sync(descriptor)
    except OSError as error:
        raise CorruptionError(
            f"the disk could not confirm a write: {error.strerror}",
            place=str(path),
            advice="check the disk and restart the server; what was not confirmed may be lost",
        ) from error
