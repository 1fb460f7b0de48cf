"""The configuration file, and the small texts that it and the command line are made of.

A file loads, or a ConfigurationError lists what is wrong, a line for each; a small text is read or
is a CallerError.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ledger.configuration import (
    ConfigurationError,
    load_configuration,
    parse_address,
    parse_claim,
    parse_hours,
)
from ledger.errors import CallerError
from ledger.ids import MailboxAddress
from tests.fuzz.target import Target
from tests.support.configuration import EVERY_KEY

WHOLE = EVERY_KEY.replace("ALPHA_KEY", "A" * 43 + "=").replace("BRAVO_KEY", "E" + "A" * 42 + "=")
SMALL = WHOLE.partition("[listen]")[0] + WHOLE[WHOLE.index("[[servers]]") : WHOLE.index("[calls]")]
READERS = (parse_address, parse_claim, parse_hours, MailboxAddress.parse)
_MOST_SMALL_BYTES = 200
_FOLDER = tempfile.TemporaryDirectory(prefix="vmledger-fuzz-")
_FILE = Path(_FOLDER.name) / "vmledger.toml"


def seeds() -> list[bytes]:
    texts = (WHOLE, SMALL, "2000-2999", "30*", "1*@sales", "22:00-06:00 1000000")
    addresses = ("[::1]:9026", "127.0.0.1:80", "2001@default")
    return [text.encode() for text in (*texts, *addresses)]


def run(data: bytes) -> bool:
    is_read = _is_loaded(data)
    if len(data) <= _MOST_SMALL_BYTES:
        text = data.decode("utf-8", "replace")
        is_read |= sum(_is_read(reader, text) for reader in READERS) > 0  # each of them is tried
    return is_read


def _is_loaded(data: bytes) -> bool:
    _FILE.write_bytes(data)
    try:
        load_configuration(_FILE, with_machine=False)
    except ConfigurationError as error:
        assert error.problems
        assert not any("\n" in problem for problem in error.problems)
        return False
    return True


def _is_read(reader, text: str) -> bool:
    try:
        reader(text)
    except CallerError:
        return False
    return True


TARGET = Target(
    run,
    seeds,
    words=(*("[[servers]]", "[[mailboxes]]", "extensions = [", '"""', "'''", "1979-05-27"), "inf"),
)
