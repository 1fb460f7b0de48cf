"""An archive is written beside the running server, and a lost server comes back from it."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
import zstandard

from ledger.configuration import load_configuration
from ledger.errors import TransientError
from ledger.migration.log_reading import incarnations_in
from ledger.migration.log_source import no_progress
from ledger.sealing import new_master_key
from ledger.storage.open_recorder import open_recorder
from tests.support.api import wav
from tests.support.command_line import CommandLine
from tests.support.pair import CALLER, Client, eventually, write_pair
from tests.support.processes import Servers
from tests.support.s3_server import KEY, SECRET, s3_server
from vmledger.archive import Segment
from vmledger.copy_source import CopySource
from vmledger.recovery import BetterCopyError
from vmledger.recovery_sources import recover_from

KEYS = {"server.key", "tls.key", "tls.crt", "master.key"}


def lose(config: Path) -> None:
    for path in (config.parent / "data").iterdir():
        if path.name not in KEYS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def archived(tmp_path_factory) -> tuple[CommandLine, Path, Path, list[str]]:
    """Alpha is lost; its archive was written in two runs, and is all there is."""
    folder = tmp_path_factory.mktemp("archived")
    files = write_pair(folder)
    run, archive, backup = (
        CommandLine(folder, files["alpha"]),
        folder / "archive",
        folder / "backup",
    )
    with Servers([files["alpha"]]) as servers:
        servers["alpha"].start()
        client = Client(servers["alpha"])
        left = [client.leave("1001", wav(1200, level=3))["message_id"]]
        first = run("archive", archive, "--json").json
        assert first["new_recordings"] == 1
        before = {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()}
        left.append(client.leave("1001", wav(1300, level=4))["message_id"])
        second = run("archive", archive, "--json").json
        assert second["position"] > first["position"] > 0
        assert second["new_events"] == second["position"] - first["position"]
        assert second["new_recordings"] == 1
        assert run("archive", archive, "--json").json["new_segments"] in (0, 1)
        run("backup", "create", backup)
    for path, data in before.items():
        if path.name != "serve.lock":
            assert path.read_bytes() == data, f"{path} is written once and never changed"
    return run, archive, backup, left


@pytest.mark.parametrize("kind", ["archive", "backup"])
def test_lost_server_comes_back_from_a_directory(archived, kind):
    run, archive, backup, left = archived
    assert run.config is not None
    lose(run.config)
    source = archive if kind == "archive" else backup
    done = run("recover", run.config.parent, "--from", source, "--json").json
    assert done["statement"].endswith("nothing missing")
    run("log", "verify", "--blobs")
    with Servers([run.config]) as servers:
        servers["alpha"].start()
        client = Client(servers["alpha"])
        eventually(lambda: sorted(client.mailbox("1001")) == sorted(left))
        assert client.audio("1001", left[0]) == wav(1200, level=3)
        assert client.callers("1001") == {("known", CALLER)}


def test_lost_server_comes_back_from_a_bucket(tmp_path):
    """The archive of a running server, in two runs; what lies there is what a server must know."""
    files = write_pair(tmp_path)
    run = CommandLine(tmp_path, files["alpha"])
    credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    (tmp_path / "s3" / "calls").mkdir(parents=True)
    with s3_server(tmp_path / "s3") as endpoint:
        place = f"s3://calls/of/alpha?endpoint={endpoint}"
        left = []
        with Servers([files["alpha"]]) as servers:
            servers["alpha"].start()
            client = Client(servers["alpha"])
            for second in range(2):
                left.append(client.leave("1001", wav(1200 + second, level=3))["message_id"])
                told = run("archive", place, "--json", **credentials).json
                assert (told["new_recordings"], told["absent"]) == (1, 0)
        sound = run("log", "verify", "--archive", place, "--blobs", "--json", **credentials).json
        assert sound["log"]["position"] == told["position"]
        assert (sound["blobs"]["checked"], sound["blobs"]["missing"]) == (2, [])
        lose(files["alpha"])
        refused = run("recover", tmp_path / "alpha", "--from", place, code=None)
        assert refused.code != 0
        assert "credentials" in refused.err, "without them nothing can be read there"
        done = run("recover", tmp_path / "alpha", "--from", place, "--json", **credentials).json
        assert done["statement"].endswith("nothing missing")
        assert [source["name"] for source in done["report"]["sources"]] == ["s3://calls/of/alpha"]
        run("log", "verify", "--blobs")
        with Servers([files["alpha"]]) as servers:
            servers["alpha"].start()
            client = Client(servers["alpha"])
            eventually(lambda: sorted(client.mailbox("1001")) == sorted(left))
            assert client.audio("1001", left[0]) == wav(1200, level=3)

        lose(files["alpha"])
        spoil(next((tmp_path / "s3").rglob("*.segment")))
        refused = run("recover", tmp_path / "alpha", "--from", place, code=None, **credentials)
        assert refused.code != 0
        assert "s3://calls/of/alpha/segments/" in refused.err


def test_archive_is_verified_where_it_lies(archived, tmp_path):
    run, archive, _, left = archived
    sound = run("log", "verify", "--archive", archive, "--blobs", "--json").json
    assert sound["blobs"]["checked"] == len(left)
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    spoil(next((copy / "blobs").rglob("*.pack")))
    told = run("log", "verify", "--archive", copy, "--blobs", code=1).out
    assert "damaged: " in told
    assert f"take these from another copy of {copy}, or write a new archive" in told
    assert "is no archive" in run("log", "verify", "--archive", tmp_path / "typo", code=None).err
    both = run("log", "verify", "--archive", copy, "--copy-of", "bravo", code=2)
    assert "either --copy-of or --archive" in both.err


def test_archive_that_lost_its_keys_is_not_intact_and_the_advice_is_for_an_archive(
    archived, tmp_path
):
    run, archive, _, _ = archived
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    for file in (copy / "segments").iterdir():
        segment = msgspec.json.decode(zstandard.decompress(file.read_bytes()), type=Segment)
        without = msgspec.json.encode(msgspec.structs.replace(segment, keys=()))
        file.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(without))
    told = run("log", "verify", "--archive", copy, code=1).out
    assert "key of call " in told
    assert f"keep {copy} as it is" in told
    assert "write a new archive to another place" in told
    assert "restore the log" not in told


def test_archive_of_another_server_is_not_taken_for_ones_own(archived):
    run, archive, _, _ = archived
    bravo = CommandLine(run.folder, run.folder / "bravo" / "vmledger.toml")
    refused = bravo("log", "verify", "--archive", archive, code=None)
    assert refused.code != 0
    assert "bravo did not sign for the" in refused.err


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_recovery_with_another_master_key_says_that_nobody_can_read_the_calls(archived):
    run, archive, _, left = archived
    lose(run.config)
    file = run.config.parent / "data" / "master.key"
    right = file.read_bytes()
    file.unlink()
    try:
        refused = run("recover", run.config.parent, "--from", archive, code=2)
        assert "master.key" in refused.err
        new_master_key(file, os.urandom)
        done = run("recover", run.config.parent, "--from", archive, "--json", code=1).json
        assert f"{len(left)} calls cannot be read" in done["statement"]
    finally:
        file.unlink(missing_ok=True)
        file.write_bytes(right)
        file.chmod(0o600)


def shorter(archive: Path, folder: Path) -> str:
    """Give an archive without its last segment."""
    copy = folder / "shorter"
    shutil.copytree(archive, copy)
    max((copy / "segments").glob("*.segment")).unlink()
    return str(copy)


@contextmanager
def failing(source: Path) -> Iterator[None]:
    """Let a disk fail while recordings of that source are copied."""
    own_blobs = CopySource.blobs

    async def blobs(self, of, digests):
        if self.name == str(source):
            raise TransientError("the disk could not confirm a write")
        return await own_blobs(self, of, digests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CopySource, "blobs", blobs)
        yield


def test_recovery_does_not_end_with_less_while_a_longer_copy_may_be_had(archived, tmp_path):
    run, archive, backup, _ = archived
    lose(run.config)
    config = load_configuration(run.config)
    sources = [shorter(archive, tmp_path), str(backup)]
    problem = "could not confirm a write; recover once more"
    with failing(backup), pytest.raises(BetterCopyError, match=problem):
        asyncio.run(recover_from(config, sources, None, no_progress))
    report = asyncio.run(recover_from(config, sources, None, no_progress))
    assert report.is_whole
    assert report.position == max(max(source.copies) for source in report.sources)


def test_recovery_does_not_take_a_former_history_while_the_present_one_may_be_had(
    archived, tmp_path
):
    """The former one was left behind by a log that went back and went on."""
    run, archive, _, _ = archived
    present = tmp_path / "present"
    lose(run.config)
    asyncio.run(
        recover_from(
            load_configuration(run.config), [shorter(archive, tmp_path)], None, no_progress
        )
    )
    run("archive", present)
    lose(run.config)
    config = load_configuration(run.config)
    sources = [str(archive), str(present)]
    with failing(present), pytest.raises(BetterCopyError, match="recover once more"):
        asyncio.run(recover_from(config, sources, None, no_progress))
    report = asyncio.run(recover_from(config, sources, None, no_progress))
    _, copied = (source.copies[0] for source in report.sources)
    assert (report.position, report.sources[1].problem) == (copied, "")
    with closing(open_recorder(config.stores.events)) as log:
        told = incarnations_in("alpha", log, report.position)
        assert len(told) == 2, "the log that was recovered tells that it went back"
        assert len(incarnations_in("alpha", log)) == 3, "and what follows it, that it was recovered"


def test_damage_to_an_archive_is_found_and_named(archived, tmp_path):
    run, archive, _, _ = archived
    lose(run.config)
    for spoil in ("cut", "gap"):
        copy = tmp_path / spoil
        shutil.copytree(archive, copy)
        first = min((copy / "segments").glob("*.segment"))
        if spoil == "cut":
            first.write_bytes(first.read_bytes()[:-5])
        else:
            first.unlink()
        refused = run("recover", run.config.parent, "--from", copy, code=1)
        assert "archive" in refused.err
        assert "Traceback" not in refused.err


def test_sources_that_cannot_be_read_do_not_keep_a_server_from_coming_back(archived, tmp_path):
    run, archive, backup, _ = archived
    lose(run.config)
    damaged, away = tmp_path / "damaged", "s3://calls/of/alpha"
    shutil.copytree(archive, damaged)
    spoil(min((damaged / "segments").glob("*.segment")))
    sources = [damaged, f"{away}?endpoint=http://127.0.0.1:9", backup]
    named = [word for source in sources for word in ("--from", source)]
    credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    done = run("recover", run.config.parent, *named, "--json", **credentials).json
    assert done["statement"].endswith("nothing missing")
    problems = {one["name"]: one["problem"] for one in done["report"]["sources"]}
    assert problems.keys() == {str(damaged), away, str(backup)}
    assert f"{damaged}/segments/" in problems[str(damaged)]
    assert f"the S3 store failed at listing {away}/segments" in problems[away]
    assert not problems[str(backup)]


def test_recovery_from_a_name_that_is_no_source_begins_nothing(archived, tmp_path):
    run, _, backup, _ = archived
    lose(run.config)
    sources = ["--from", backup, "--from", tmp_path / "typo"]
    refused = run("recover", run.config.parent, *sources, code=2)
    assert "is no directory or bucket" in refused.err
    assert {path.name for path in (run.config.parent / "data").iterdir()} <= KEYS | {"serve.lock"}


def test_archive_of_another_history_is_not_continued(archived):
    run, archive, _, _ = archived
    lose(run.config)
    open_recorder(load_configuration(run.config).stores.events).close()
    with Servers([run.config]) as servers:
        servers["alpha"].start()
        Client(servers["alpha"]).leave("1001", wav(1200, level=9))
        refused = run("archive", archive, code=1)
        assert "not the first ones of this log" in refused.err
