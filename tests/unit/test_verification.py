"""Verification finds a changed byte wherever it is, and names the place."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from ledger import events as e
from ledger.identity import generate_identity
from ledger.migration.receipts import sign_receipt
from ledger.sealing import WrappedKey
from ledger.storage.compression import compress, decompress
from ledger.storage.event_log import Append
from ledger.storage.mapper import to_stored_event
from ledger.storage.merkle import Frontier, leaf_hash
from ledger.storage.open_recorder import open_recorder
from tests.support.histories import START, History
from vmledger import verification
from vmledger.verification import LogVerification, verify_log

BRAVO = generate_identity("bravo")
KEYS = {"bravo": BRAVO.public_key}


def receipt_event(recorder, number: int) -> e.MessageMigrated:
    """Bravo signs for all of the log so far."""
    head = recorder.head()
    receipt = e.Receipt(
        origin="alpha",
        origin_incarnation=head.incarnation,
        origin_position=head.position,
        origin_root=head.root.hex(),
        home="bravo",
        home_incarnation=UUID(int=5),
        home_position=number,
        home_root="0" * 64,
        safe_position=0,
        issued_at=START,
        signature="",
    )
    return e.MessageMigrated(
        originator_id=UUID(int=10_000 + number),
        originator_version=1,
        recorded_at=START,
        recorded_by="alpha",
        message_id=UUID(int=number),
        home="bravo",
        home_position=number,
        receipt=sign_receipt(receipt, BRAVO),
    )


@pytest.fixture(scope="module")
def log_file(tmp_path_factory) -> Path:
    """Some 700 events, among them seven receipts."""
    history = History()
    for _ in range(170):
        history.call()
    path = tmp_path_factory.mktemp("log") / "ledger.sqlite"
    recorder = open_recorder(f"sqlite:///{path}")
    for number, start in enumerate(range(1, history.position + 1, 100)):
        page = history.log.read(start, 100)
        stored = [to_stored_event(e.decode(entry.plain)) for entry in page]
        keys = history.log.read_keys([entry.originator_id for entry in page])
        recorder.commit([Append(stored, keys=list(keys.values()))])
        recorder.commit([Append([to_stored_event(receipt_event(recorder, number))])])
    recorder.close()
    return path


@pytest.fixture
def copy(log_file, tmp_path) -> Path:
    """A copy that may be changed, with what protects it taken away."""
    path = tmp_path / "ledger.sqlite"
    shutil.copy(log_file, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
    return path


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def value(path: Path, query: str, *values: object):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query, values).fetchone()[0]


def verify(path: Path, keys=KEYS) -> LogVerification:
    recorder = open_recorder(f"sqlite:///{path}")
    try:
        return verify_log(recorder, server="alpha", keys=keys)
    finally:
        recorder.close()


def places(path: Path) -> set[str]:
    return {finding.place for finding in verify(path).findings}


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_log_as_it_was_written_is_intact(log_file):
    found = verify(log_file)
    assert found.findings == []
    assert (found.receipts, found.unchecked_receipts) == (7, 0)


def test_receipts_of_servers_without_a_known_key_are_counted(log_file):
    assert verify(log_file, keys={}).unchecked_receipts == 7


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bit_of_any_event_is_found_at_its_position(copy, seed):
    rng = random.Random(seed)
    position = rng.randint(1, value(copy, "SELECT position FROM log_head"))
    before = value(copy, "SELECT state FROM events WHERE position = ?", position)
    after = flipped(before, rng)
    change(copy, "UPDATE events SET state = ? WHERE position = ?", after, position)
    assert f"position {position}" in places(copy)


@pytest.mark.parametrize("seed", range(10))
def test_flipped_bit_of_an_events_hash_is_found_at_its_position(copy, seed):
    rng = random.Random(seed)
    position = rng.randint(1, value(copy, "SELECT position FROM log_head"))
    before = value(copy, "SELECT leaf_hash FROM events WHERE position = ?", position)
    after = flipped(before, rng)
    change(copy, "UPDATE events SET leaf_hash = ? WHERE position = ?", after, position)
    assert f"position {position}" in places(copy)


@pytest.mark.parametrize(
    ("column", "new"),
    [
        ("originator_id", b"x" * 16),
        ("originator_version", 99),
        ("topic", "message-heard"),
    ],
)
def test_row_that_says_otherwise_than_its_event_is_found(copy, column, new):
    change(copy, f"UPDATE events SET {column} = ? WHERE position = 400", new)
    assert "position 400" in places(copy)


@pytest.mark.parametrize("seed", range(5))
def test_flipped_bit_of_a_kept_node_is_found_with_the_events_it_covers(copy, seed):
    node = value(copy, "SELECT hash FROM tree_node WHERE level = 8 AND idx = 1")
    after = flipped(node, random.Random(seed))
    change(copy, "UPDATE tree_node SET hash = ? WHERE level = 8 AND idx = 1", after)
    assert "positions 257 to 512" in places(copy)


@pytest.mark.parametrize("seed", range(10))
def test_flipped_bit_of_the_frontier_is_found(copy, seed):
    frontier = value(copy, "SELECT frontier FROM log_head")
    change(copy, "UPDATE log_head SET frontier = ?", flipped(frontier, random.Random(seed)))
    assert places(copy) == {"log head"}


def test_lost_event_is_found(copy):
    change(copy, "DELETE FROM events WHERE position = 300")
    assert "position 300" in places(copy)


def test_several_changes_are_all_found(copy):
    for position in (7, 350, 680):
        change(copy, "UPDATE events SET state = ? WHERE position = ?", b"rot", position)
    assert {"position 7", "position 350", "position 680"} <= places(copy)


def test_sealed_call_without_key_is_damage_and_with_a_destroyed_one_is_not(tmp_path):
    with closing(open_recorder(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as recorder:
        for call_id, keys in (
            (UUID(int=1), [WrappedKey(UUID(int=1), b"key")]),
            (UUID(int=2), [WrappedKey(UUID(int=2), None)]),
            (UUID(int=3), []),
        ):
            received = e.CallReceived(
                originator_id=call_id,
                originator_version=1,
                recorded_at=START,
                recorded_by="alpha",
                called_extension="1001",
                context="default",
                status=e.CallStatus.BUSY,
                personal="c2VhbGVk",
            )
            recorder.commit([Append([to_stored_event(received)], keys=keys)])
        found = verify_log(recorder, server="alpha")
    assert [finding.place for finding in found.findings] == [f"key of call {UUID(int=3)}"]
    assert "position 3 is sealed" in found.findings[0].what


def test_receipt_that_nobody_signed_is_found(copy):
    plain = decompress(value(copy, "SELECT state FROM events WHERE position = 101"), 101)
    event = e.decode(plain)
    forged = msgspec.structs.replace(
        event, receipt=msgspec.structs.replace(event.receipt, safe_position=99)
    )
    rewrite(copy, 101, e.encode(forged))
    found = verify(copy).findings
    assert any("not genuine" in f.what and f.place == "position 101" for f in found)


def rewrite(path: Path, position: int, plain: bytes) -> None:
    """Rewrite an event with all that is kept of the tree, as a thorough forger would."""
    state = compress(plain)
    statement = "UPDATE events SET state = ?, leaf_hash = ? WHERE position = ?"
    change(path, statement, state, leaf_hash(plain), position)
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute("SELECT leaf_hash FROM events ORDER BY position").fetchall()
        nodes: list = []
        frontier = Frontier().append((row[0] for row in rows), nodes.append)
        for node in nodes:
            connection.execute(
                "UPDATE tree_node SET hash = ? WHERE level = ? AND idx = ?",
                (node.hash, node.level, node.index),
            )
        connection.execute("UPDATE log_head SET frontier = ?", (frontier.to_bytes(),))


def test_history_that_is_rewritten_with_its_whole_tree_contradicts_the_receipts(copy):
    plain = decompress(value(copy, "SELECT state FROM events WHERE position = 250"), 250)
    rewrite(copy, 250, plain.replace(b"2026-01-01", b"2026-01-02"))
    found = verify(copy).findings
    assert {"positions 202 to 302", "positions 202 to 403"} <= {f.place for f in found}
    assert all("receipt" in f.what for f in found)


def test_log_that_was_cut_with_its_tree_contradicts_the_receipts_it_still_has(copy):
    """The receipt at position 606 covers 605 positions; all behind 202 is cut, but that one."""
    late = value(copy, "SELECT state FROM events WHERE position = 606")
    plain = decompress(late, 606)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("DELETE FROM events WHERE position > 202")
        connection.execute("DELETE FROM tree_node")
        connection.execute("UPDATE log_head SET position = 202")
    rewrite(copy, 202, plain)
    assert any("covers this log up to 605" in f.what for f in verify(copy).findings)


def test_helping_processes_find_the_same(copy, monkeypatch):
    """In parts of 256 events, so that several processes have something to do."""
    change(copy, "UPDATE events SET state = ? WHERE position = 300", b"rot")
    alone = verify(copy)
    monkeypatch.setattr(verification, "_MANY", 1)
    monkeypatch.setattr(verification, "_PART", 256)
    recorder = open_recorder(f"sqlite:///{copy}")
    try:
        helped = verify_log(recorder, server="alpha", keys=KEYS, url=f"sqlite:///{copy}")
    finally:
        recorder.close()
    assert helped == alone
