"""The reference of the exported files, written from the declarations of their columns."""

from __future__ import annotations

import inspect
from typing import Final

from vmledger import export_rows
from vmledger.export import PARQUET_TYPES, ROWS, column_types
from vmledger.export_rows import Table
from vmledger.reference.events import Declaration, cell, declarations

INTRODUCTION: Final = """\
# Exported files

What `vmledger export log|calls|messages|audit` writes. `make docs` writes this page from the
declarations in the code. How to use it is on
[the audit page](../operating/audit.md#ask-your-own-questions).

The same columns in both formats. **NDJSON**: one JSON object a line, in UTF-8; times as in
RFC 3339, in UTC; ids as text. **Parquet**: compressed by zstd, in row groups of 10 000, with the
types below. A column may be added at the end of a table; none changes its name or meaning. Columns
without *null* always have a value.
"""


def page() -> str:
    """Write the whole page."""
    declared = {one.name: one for one in declarations(inspect.getsource(export_rows))}
    return "\n".join([INTRODUCTION, *(_section(table, declared) for table in Table)])


def _section(table: Table, declared: dict[str, Declaration]) -> str:
    kind = ROWS[table]
    declaration = declared[kind.__name__]
    types = column_types(kind)
    rows = ["| column | type | null | meaning |", "|---|---|---|---|"]
    for field in declaration.fields:
        python, may_be_null = types[field.name]
        null = "null" if may_be_null else ""
        rows.append(f"| `{field.name}` | {PARQUET_TYPES[python]} | {null} | {cell(field.text)} |")
    return "\n".join([f"## {table.value}\n", f"{declaration.text}\n", *rows, ""])


if __name__ == "__main__":
    print(page(), end="")
