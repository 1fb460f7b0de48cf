"""Export of the log and of what it means, for other tools: NDJSON or Parquet, a page at a time.

The file appears under its name only when it is whole, and only its owner may read it: it names who
called. That it was made is recorded first.

Parquet needs the extra ``parquet`` of this package (pyarrow); NDJSON needs nothing.

Source: claim 10.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from itertools import islice
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from ledger.errors import CallerError
from ledger.events import decode
from ledger.storage.callers import Callers
from ledger.storage.event_log import LogRecorder
from ledger.storage.merkle import leaf_hash
from projections.calls import CALLS, CallRecord, Calls
from projections.mailboxes import MAILBOXES, MailboxEntry, Mailboxes
from projections.projection import Projection
from vmledger.audit import read_audit
from vmledger.export_rows import AuditRow, CallRow, Format, LogRow, MessageRow, Table
from vmledger.read_models import ReadModels

if TYPE_CHECKING:
    import pyarrow as pa

_PAGE: Final = 1000
_ROW_GROUP: Final = 10_000

Row: TypeAlias = LogRow | CallRow | MessageRow | AuditRow


ROWS: Final[dict[Table, type[Row]]] = {
    Table.LOG: LogRow,
    Table.CALLS: CallRow,
    Table.MESSAGES: MessageRow,
    Table.AUDIT: AuditRow,
}

SOURCES: Final[dict[Table, Projection]] = {Table.CALLS: CALLS, Table.MESSAGES: MAILBOXES}
"""The read models that rows are taken from; the other tables come from the log itself."""


# --- What is read -------------------------------------------------------------------------------


def read_rows(
    table: Table, recorder: LogRecorder, models: ReadModels, callers: Callers
) -> Iterator[Row]:
    """Give the rows of a table, a page in memory at a time.

    Log and audit in the order of the log, calls the newest first, messages by their ids. Raises
    TransientError, CorruptionError.
    """
    match table:
        case Table.LOG:
            return _read_log(recorder)
        case Table.CALLS:
            return _read_calls(Calls(models.store), callers)
        case Table.MESSAGES:
            return _read_messages(Mailboxes(models.store), callers)
        case Table.AUDIT:
            return (_as(AuditRow, deed) for deed in read_audit(recorder))


def _read_log(recorder: LogRecorder) -> Iterator[Row]:
    end = recorder.head().position
    for start in range(1, end + 1, _PAGE):
        for entry in recorder.read(start, _PAGE, end):
            event = decode(entry.plain, f"position {entry.position}")
            yield LogRow(
                position=entry.position,
                stream=entry.originator_id,
                version=entry.originator_version,
                topic=entry.topic,
                recorded_at=event.recorded_at,
                recorded_by=event.recorded_by,
                origin=entry.origin,
                origin_position=entry.origin_position,
                leaf_hash=leaf_hash(entry.plain).hex(),
                event=entry.plain.decode(),
            )


def _read_calls(calls: Calls, callers: Callers) -> Iterator[Row]:
    before = None
    while True:
        page = calls.page(before=before, limit=_PAGE)
        yield from _with_callers(CallRow, page.calls, callers)
        before = page.next_before
        if before is None:
            return


def _read_messages(mailboxes: Mailboxes, callers: Callers) -> Iterator[Row]:
    after: UUID | None = None
    while page := mailboxes.all_messages(after=after, limit=_PAGE):
        yield from _with_callers(MessageRow, page, callers)
        after = page[-1].message_id


def _with_callers(
    kind: type[Row], records: Sequence[CallRecord | MailboxEntry], callers: Callers
) -> Iterator[Row]:
    seen = callers.see((record.call_id, record.caller) for record in records)
    return (_as(kind, record, who.columns()) for record, who in zip(records, seen, strict=True))


def _as(kind: type[Row], record: Any, others: Mapping[str, Any] = MappingProxyType({})) -> Row:
    """Take the columns of a row out of a record that has them and more, and out of others."""
    values = {
        name: others[name] if name in others else getattr(record, name)
        for name in kind.__struct_fields__
    }
    return kind(**{n: v.value if isinstance(v, Enum) else v for n, v in values.items()})


# --- How it is written --------------------------------------------------------------------------


def write_export(
    path: Path, table: Table, form: Format, rows: Iterable[Row], *, force: bool = False
) -> int:
    """Write rows to a new file, mode 0600, whole or not at all; gives their number.

    Raises CallerError for a file that exists (unless forced), for a directory, or without pyarrow
    for Parquet.
    """
    write = _writer(form)
    if path.is_dir():
        raise CallerError(f"{path} is a directory; name a file in it")
    if path.exists() and not force:
        raise CallerError(f"{path} exists; give another name or --force")
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            count = write(file, ROWS[table], rows)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return count


_Write: TypeAlias = Callable[[IO[bytes], type[Row], Iterable[Row]], int]


def _writer(form: Format) -> _Write:
    if form is Format.NDJSON:
        return _write_ndjson
    try:
        import pyarrow  # noqa: F401, PLC0415 - an extra of this package
    except ImportError:
        raise CallerError(
            "Parquet needs pyarrow, which is not installed: install voicemail-ledger[parquet], or "
            "export as ndjson"
        ) from None
    return _write_parquet


def _write_ndjson(file: IO[bytes], _kind: type[Row], rows: Iterable[Row]) -> int:
    encoder, count = msgspec.json.Encoder(), 0
    for row in rows:
        file.write(encoder.encode(row) + b"\n")
        count += 1
    return count


def _write_parquet(file: IO[bytes], kind: type[Row], rows: Iterable[Row]) -> int:
    import pyarrow as pa  # noqa: PLC0415 - see above
    import pyarrow.parquet as pq  # noqa: PLC0415 - see above

    schema, left, count = parquet_schema(kind), iter(rows), 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(left, _ROW_GROUP)):
            columns = [
                pa.array([_plain(getattr(row, field.name)) for row in group], field.type)
                for field in schema
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            count += len(group)
    return count


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, UUID) else value


def column_types(kind: type[Row]) -> dict[str, tuple[type, bool]]:
    """Give the type of each column of a table, and whether it may be null."""
    types: dict[str, tuple[type, bool]] = {}
    for name, hint in get_type_hints(kind).items():
        if name not in kind.__struct_fields__:
            continue
        is_union = get_origin(hint) is UnionType
        options = [each for each in get_args(hint) if each is not NoneType] if is_union else [hint]
        types[name] = (get_origin(options[0]) or options[0], is_union)
    return types


PARQUET_TYPES: Final = {
    int: "int64",
    bool: "bool",
    str: "string",
    UUID: "string",
    datetime: "timestamp[us, UTC]",
    tuple: "list<string>",
}
"""By the Python type of a column."""


def parquet_schema(kind: type[Row]) -> pa.Schema:
    """Give the schema of a table's Parquet file; pyarrow must be there."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    types = {
        int: pa.int64(),
        bool: pa.bool_(),
        str: pa.string(),
        UUID: pa.string(),
        datetime: pa.timestamp("us", tz="UTC"),
        tuple: pa.list_(pa.string()),
    }
    return pa.schema(
        [
            pa.field(name, types[python], nullable=may_be_null)
            for name, (python, may_be_null) in column_types(kind).items()
        ]
    )
