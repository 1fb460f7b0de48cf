"""The story of a message across servers, as a user asks for it: each server another process."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ledger.configuration import load_configuration
from tests.support.command_line import CommandLine
from vmledger.cluster import write_cluster
from vmledger.demo.processes import ServerProcess, free_ports

SPEECH = min(Path(str(resources.files("vmledger") / "speech")).glob("*.wav"))
HOMES = {"alpha": ["1000-1999"], "bravo": ["2000-2999"], "charlie": ["3000-3999"]}


@dataclass
class Site:
    server: ServerProcess
    vmledger: CommandLine

    def start(self) -> None:
        self.server.start()
        self.server.wait_until_ready()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    folder = tmp_path_factory.mktemp("story")
    paths = write_cluster(folder, list(HOMES), HOMES, free_ports(list(HOMES)))
    sites = {
        name: Site(
            ServerProcess(load_configuration(path), path, folder / f"{name}.log"),
            CommandLine(folder, path),
        )
        for name, path in zip(HOMES, paths, strict=True)
    }
    try:
        yield sites
    finally:
        for site in sites.values():
            site.server.kill()


@pytest.fixture(scope="module")
def message(sites: dict[str, Site]) -> str:
    """Taken by alpha while bravo was away, shipped when it came, heard and deleted there."""
    alpha, bravo = sites["alpha"], sites["bravo"]
    alpha.start()
    said = alpha.vmledger(
        "call", "--from", "+15550100", "--to", "2001", "--status", "busy", "--audio", SPEECH,
        "--json",
    ).json  # fmt: skip
    message = said["message"]["message_id"]
    bravo.start()
    deadline_s = time.monotonic() + 90
    while not bravo.vmledger("mailbox", "2001", "--json").json["messages"]:
        assert time.monotonic() < deadline_s, "the message does not arrive"
    bravo.vmledger("message", "heard", message)
    bravo.vmledger("message", "delete", message)
    return message


@pytest.mark.timeout(300)
def test_story_is_told_whole_at_the_server_that_took_the_call(sites, message):
    story = sites["alpha"].vmledger("message", "show", message, "--json").json["story"]
    told = [(step["recorded_by"], step["event"]) for step in story["steps"]]
    of_message = [pair for pair in told if pair[1] not in _ON_THE_WAY]
    assert of_message == [
        ("alpha", "call-received"),
        ("alpha", "transfer-decided"),
        ("alpha", "message-stored"),
        ("bravo", "message-delivered"),
        ("alpha", "message-migrated"),
        ("bravo", "message-heard"),
        ("bravo", "message-deleted"),
    ]
    assert story["steps"][0]["text"] == "a call from +15550100 for 2001: busy"
    assert ("alpha", "attempts-failed") in told
    stored = next(step for step in story["steps"] if step["event"] == "message-stored")
    assert set(stored["positions"]) == {"alpha", "bravo"}


_ON_THE_WAY = {"attempts-failed", "peer-lost", "peer-returned"}


@pytest.mark.timeout(300)
def test_server_that_is_away_is_named(sites, message):
    said = sites["bravo"].vmledger("message", "show", message).out
    assert "charlie is AWAY" in said
    assert "the story may lack steps" in said
    assert "a call from +15550100 for 2001: busy" in said


@pytest.mark.timeout(300)
def test_story_is_drawn(sites, message, tmp_path):
    picture = tmp_path / "story.svg"
    sites["bravo"].vmledger("message", "show", message, "--svg", picture)
    words = "".join(ElementTree.parse(picture).getroot().itertext())
    assert "charlie is away" in words
    assert "listened to by local-operator" in words
    assert picture.stat().st_mode & 0o777 == 0o600
    assert (
        "exists"
        in sites["bravo"].vmledger("message", "show", message, "--svg", picture, code=1).err
    )


@pytest.mark.timeout(300)
def test_server_that_never_had_the_message_tells_the_whole_story(sites, message):
    sites["charlie"].start()
    shown = sites["charlie"].vmledger("message", "show", message, "--json").json
    assert shown["story"]["is_whole"]
    assert len(shown["story"]["steps"]) >= 7
    assert "status" not in shown
    own = sites["charlie"].vmledger("message", "story", message, code=1)
    assert "nothing is recorded here" in own.err
