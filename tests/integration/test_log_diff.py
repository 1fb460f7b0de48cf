"""Two real servers' logs are compared over the way between servers."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ledger.storage.compression import compress, decompress
from tests.support.command_line import CommandLine
from tests.support.pair import Client, write_pair
from tests.support.processes import Servers, wait_for

pytestmark = pytest.mark.timeout(300)


def test_changed_event_is_named_and_a_server_that_is_away_is_told(tmp_path: Path):
    files = write_pair(tmp_path)
    alpha = CommandLine(tmp_path, files["alpha"])
    with Servers(list(files.values())) as servers:
        servers.start_all()
        clients = {name: Client(servers[name]) for name in files}
        for _ in range(3):
            clients["alpha"].leave("2001")
            clients["bravo"].leave("1001")
        assert wait_for(lambda: not sum(client.pending() for client in clients.values()), 60)
        same = alpha("log", "diff", "bravo", "--json").json
        assert same["is_same"]
        assert same["acknowledged"] == 6
        assert same["taken_here"] == same["taken_there"] >= 9

        servers["bravo"].stop()
        assert "bravo" in alpha("log", "diff", "bravo", code=1).err
        place = change_an_event_of_alpha(files["bravo"].parent / "data" / "ledger.sqlite")
        servers["bravo"].start()
        told = alpha("log", "diff", "bravo", code=1)
        assert f"disagree: alpha position {place[1]}, taken in at {place[0]}: " in told.out
        assert re.search("differences +1$", told.out, re.MULTILINE)
    assert "no other server" in alpha("log", "diff", "charlie", code=2).err


def change_an_event_of_alpha(file: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TRIGGER events_refuse_update")
        position, origin_position, state = connection.execute(
            "SELECT position, origin_position, state FROM events "
            "WHERE origin = 'alpha' AND topic = 'call-received' ORDER BY position LIMIT 1"
        ).fetchone()
        plain = decompress(state, position)
        changed = plain.replace(b'"no-answer"', b'"busy"')
        assert changed != plain
        statement = "UPDATE events SET state = ? WHERE position = ?"
        connection.execute(statement, (compress(changed), position))
    return position, origin_position
