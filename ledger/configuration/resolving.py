"""Paths and store URLs as the file writes them, made absolute.

Source: claims 6, 10 and 13.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ledger.configuration.configuration import Stores
from ledger.configuration.problems import KeyPath, Problems
from ledger.configuration.schema import Store

_DATABASES: Final = ("sqlite", "postgresql")
_DATABASE_ADVICE: Final = "write sqlite:///PATH or postgresql://HOST/DATABASE"
_BLOB_ADVICE: Final = "write file:///PATH or s3://BUCKET/PREFIX"


class Places:
    """Resolves what the file says of paths: ``{data}``, and relative to the file."""

    def __init__(self, base: Path, data: str, problems: Problems) -> None:
        self._base = base
        self._problems = problems
        self.data = base
        self.data = self.path(data, ("data",))

    def path(self, text: str, key: KeyPath) -> Path:
        """Give the absolute path; notes a problem for what cannot be one."""
        if not text.strip() or not text.isprintable():
            self._problems.add(key, "is not a path", "write the path of a file or directory")
            return self.data
        return self._base / self.fill_in(text)

    def fill_in(self, text: str) -> str:
        """Put the data directory where the text says ``{data}``."""
        return text.replace("{data}", str(self.data))


def resolve_stores(store: Store, places: Places, problems: Problems) -> Stores:
    """Give the store URLs with absolute paths."""
    events = _database(store.events, ("store", "events"), places, problems)
    projections = store.projections
    if projections is None:
        is_sqlite = events.startswith("sqlite:")
        projections = "sqlite:///{data}/projections.sqlite" if is_sqlite else events
    return Stores(
        events=events,
        projections=_database(projections, ("store", "projections"), places, problems),
        blobs=_blobs(store.blobs, places, problems),
    )


def _database(url: str, key: KeyPath, places: Places, problems: Problems) -> str:
    scheme = _scheme(url)
    if scheme not in _DATABASES:
        problems.add(key, "is not the URL of a database", _DATABASE_ADVICE)
    elif scheme == "sqlite":
        if not url.startswith("sqlite:///") or url == "sqlite:///":
            problems.add(key, "names no database file", _DATABASE_ADVICE)
            return url
        return f"sqlite:///{places.path(url.removeprefix('sqlite:///'), key)}"
    return url


def _blobs(url: str, places: Places, problems: Problems) -> str:
    key = ("store", "blobs")
    scheme = _scheme(url)
    if scheme == "s3" and urlsplit(url).netloc:
        return url
    if scheme == "file" and url.startswith("file://") and url != "file://":
        return f"file://{places.path(url.removeprefix('file://'), key)}"
    problems.add(key, "is not the URL of a blob store", _BLOB_ADVICE)
    return url


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""
