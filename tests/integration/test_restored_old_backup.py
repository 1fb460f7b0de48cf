"""A real server comes back with an old backup of its log: its peer notices, and gives back."""

import pytest

from tests.integration.test_backup import lose
from tests.support.api import wav
from tests.support.command_line import CommandLine
from tests.support.pair import Client, eventually, write_pair
from tests.support.processes import Servers

HOME_SINCE, SENT_SINCE, LOST = wav(1200, level=11), wav(1400, level=13), wav(1600, level=17)


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """Alpha runs with yesterday's log; what each had taken before, by what was spoken."""
    folder = tmp_path_factory.mktemp("old")
    files = write_pair(folder)
    with Servers(files.values()) as servers:
        alpha, bravo = servers["alpha"], servers["bravo"]
        alpha.start()
        bravo.start()
        client, far = Client(alpha), Client(bravo)
        run = CommandLine(folder, alpha.config)
        ids = {"before": client.leave("1001")["message_id"]}
        run("backup", "create", folder / "backup")
        ids["home since"] = far.leave("1001", HOME_SINCE)["message_id"]
        ids["sent since"] = client.leave("2001", SENT_SINCE)["message_id"]
        ids["lost"] = client.leave("1001", LOST)["message_id"]
        eventually(lambda: client.pending() + far.pending() == 0)
        assert set(client.mailbox("1001")) == {ids["before"], ids["home since"], ids["lost"]}

        alpha.kill9()
        lose(alpha.config)
        run("backup", "restore", folder / "backup")
        alpha.start()
        client = Client(alpha)
        eventually(lambda: ids["home since"] in client.mailbox("1001"))
        eventually(lambda: "gave back" in run("servers").out)
        yield run, client, far, ids, CommandLine(folder, bravo.config)


def test_what_the_peer_had_sent_comes_again_once(restored):
    _, client, _, ids, _ = restored
    assert sorted(client.mailbox("1001")) == sorted([ids["before"], ids["home since"]])
    assert client.audio("1001", ids["home since"]) == HOME_SINCE


def test_what_it_had_sent_itself_is_known_here_again_and_not_doubled_there(restored):
    run, client, far, ids, _ = restored
    eventually(lambda: client.pending() == 0)
    assert far.mailbox("2001") == [ids["sent since"]]
    assert far.audio("2001", ids["sent since"]) == SENT_SINCE
    told = run("message", "show", ids["sent since"], "--json").json
    assert told["message_id"] == ids["sent since"]


def test_operator_is_told_what_came_back_and_that_something_is_lost(restored):
    run, _, _, _, _ = restored
    text = run("servers").out
    assert "went back" in text
    assert "bravo gave back" in text
    assert "(1 messages)" in text
    assert "events are known to nobody" in text
    told = run("doctor").out
    assert "warn   log went back" in told
    assert "look for them on the old disk" in told


def test_both_go_on_as_if_nothing_had_happened(restored):
    run, client, far, ids, far_run = restored
    new = client.leave("2001")["message_id"]
    answer = far.leave("1001")["message_id"]
    eventually(lambda: client.pending() + far.pending() == 0)
    assert sorted(far.mailbox("2001")) == sorted([ids["sent since"], new])
    assert sorted(client.mailbox("1001")) == sorted([ids["before"], ids["home since"], answer])
    run("log", "verify", "--blobs")
    far_run("log", "verify", "--blobs")
