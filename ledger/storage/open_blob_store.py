"""From the configured URL to a blob store.

``file:///var/lib/vmledger/blobs`` or
``s3://bucket/prefix?endpoint=https://s3.example.org&region=eu-1``. Credentials never stand in the
URL: it is shown in logs.

Source: claim 10 (storage interface module).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ledger.errors import CallerError
from ledger.storage.blob_store import BlobStore
from ledger.storage.filesystem_blobs import FilesystemBlobStore

if TYPE_CHECKING:
    from ledger.storage.s3_objects import S3Objects

_S3_OPTIONS = frozenset({"endpoint", "region"})


def open_blob_store(url: str) -> BlobStore:
    """Open the store that a URL names; makes the directories of a file store.

    Raises CallerError when the URL is none of ours, or the extra ``s3`` is not installed;
    TransientError when the directory cannot be made.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FilesystemBlobStore(_directory(url, parts))
    if parts.scheme == "s3":
        return open_s3_blob_store(url)
    raise CallerError(
        f"blob store {url!r} is neither file:///DIRECTORY nor s3://BUCKET/PREFIX?endpoint=URL"
    )


def blob_directory(url: str) -> Path | None:
    """Give the directory of a store that is one on this machine; None for others."""
    parts = urlsplit(url)
    return _directory(url, parts) if parts.scheme == "file" else None


def _directory(url: str, parts: SplitResult) -> Path:
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute() or parts.query:
        raise CallerError(
            f"blob store {url!r} must name an absolute directory: file:///var/lib/…/blobs"
        )
    return path


def open_s3(url: str, below: str = "") -> S3Objects:
    """Make a client of the bucket and prefix that a URL names; ``below`` continues the prefix.

    Nothing is sent yet. Raises CallerError as `open_blob_store` does.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - _S3_OPTIONS):
        raise CallerError(
            f"{parts.scheme}://{parts.hostname} has the unknown option {unknown[0]!r}; known are "
            "endpoint and region"
        )
    if not parts.hostname or parts.username or parts.password:
        raise CallerError(
            "an S3 store is named s3://BUCKET/PREFIX; "
            "credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    try:
        # Imported here: whoever keeps nothing there need not install the client.
        from ledger.storage.s3_objects import connect_s3  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise CallerError(
            f"{url!r} needs the S3 client: pip install 'voicemail-ledger[s3]'"
        ) from error
    prefix = "/".join(part for part in (unquote(parts.path).strip("/"), below) if part)
    return connect_s3(parts.hostname, prefix, options.get("endpoint"), options.get("region"))


def open_s3_blob_store(url: str, below: str = "") -> BlobStore:
    """Open a blob store in a bucket; raises CallerError as `open_s3` does."""
    objects = open_s3(url, below)
    from ledger.storage.s3_blobs import S3BlobStore  # noqa: PLC0415 - an extra

    return S3BlobStore(objects)
