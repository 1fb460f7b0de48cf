"""What the server says of itself while it runs: one line an action on standard error.

Every line carries ``action=``, a stable word that a filter or an alarm can rely on; the rest of the
line may change. A line is for people as text, for machines as JSON. Nothing here is part of the
ledger: what must be provable is an event.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from vmledger.one_line import one_line

_PAIR: Final = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


class LogFormat(Enum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class TextFormatter(logging.Formatter):
    """Time, level, logger and the line itself; a line stays one line whatever it quotes."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname.lower()} {record.name} {_line(record)}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the ``key=value`` pairs of the message as members."""

    def format(self, record: logging.LogRecord) -> str:
        text = _line(record)
        fields: dict[str, str] = {key: value.strip('"') for key, value in _PAIR.findall(text)}
        fields |= {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": text,
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure_logs(log_format: LogFormat, level: int = logging.INFO) -> None:
    """Send all log lines of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format is LogFormat.JSON else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Each request has its own line with an action already.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _line(record: logging.LogRecord) -> str:
    return one_line(record.getMessage())
