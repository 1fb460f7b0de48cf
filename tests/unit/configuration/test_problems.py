"""Loading a bad file: each problem has a place, a line and a remedy, and all come at once."""

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ledger.configuration import ConfigurationError, load_configuration
from ledger.configuration.checks import check_writable
from ledger.configuration.problems import Problems
from ledger.identity import generate_identity, public_key_text


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("fresh_for_s = 2", "fresh_fro_s = 2", "replication.fresh_fro_s", "mean 'fresh_for_s'?"),
        ("[limits]", "[limitz]", "limitz", "did you mean 'limits'?"),
        (
            'time_zone = "Europe/Berlin"',
            'time_zone = "Mars/Olympus"',
            "replication.time_zone",
            "no time zone that this machine knows",
        ),
        *(
            (
                'send_hours = ["22:00-06:00 1000000"]',
                f'send_hours = ["08:00-18:00 4096", "{hours}"]',
                "servers[1].send_hours[1]",
                message,
            )
            for hours, message in [
                ("8-18 4096", "write it like '08:00-18:00 65536'"),
                ("08:00-25:00 4096", "write it like"),
                ("08:00-18:00 -1", "write it like"),
                ("08:00-08:00 4096", "begins when it ends"),
                ("08:00-18:00 100", "less than 1024 bytes a second"),
            ]
        ),
        *(
            ('mirrors = ["alpha"]', f"mirrors = {mirrors}", f"servers[1].mirrors[{place}]", message)
            for mirrors, place, message in [
                ('["bravo"]', 0, "is the server itself"),
                ('["carol"]', 0, "server 'carol' is not among"),
                ('["alpha", "alpha"]', 1, "names 'alpha' a second time"),
            ]
        ),
        (
            "max_send_bytes_per_s = 100000",
            "max_send_bytes_per_s = 10",
            "servers[1].max_send_bytes_per_s",
            ">= 1024",
        ),
        ("in_flight = 3", "in_flight = 0", "replication.in_flight", ">= 1"),
        (
            "in_flight = 3",
            "in_flight = true",
            "replication.in_flight",
            "expected a whole number, got true",
        ),
        ("in_flight = 3", "in_flight = 99999999999999999999", "replication.in_flight", "whole"),
        ("deadline_s = 0.5", "deadline_s = nan", "replication.deadline_s", "not a finite number"),
        ("deadline_s = 0.5", "deadline_s = inf", "replication.deadline_s", "not a finite number"),
        ("deadline_s = 0.5", 'deadline_s = "1s"', "replication.deadline_s", "got text"),
        ("deadline_s = 0.5", "deadline_s = -1", "replication.deadline_s", "> 0"),
        ("backoff_min_s = 2", "backoff_min_s = 21", "replication.backoff_min_s", "backoff_max_s"),
        ('server = "alpha"', 'server = "Alpha"', "server", "matching regex"),
        ('server = "alpha"', 'server = "alfa"', "server", "which names alpha, bravo"),
        ('id = "bravo"', 'id = "bravo\\n"', "servers[1].id", "matching regex"),
        ('api = "127.0.0.1:9025"', 'api = "9025"', "listen.api", "like 127.0.0.1:8025"),
        ('api = "127.0.0.1:9025"', 'api = "h:99999"', "listen.api", "is not host:port"),
        ('api = "127.0.0.1:9025"', 'api = "[::1:1"', "listen.api", "is not host:port"),
        ('api_key = "{data}/tls.key"', "", "listen.api_certificate", "add api_key"),
        ('api_certificate = "{data}/tls.crt"', "", "listen.api_key", "add api_certificate"),
        ('"sqlite:///{data}/events.sqlite"', '"mysql://x/y"', "store.events", "postgresql://"),
        ('"sqlite:///{data}/events.sqlite"', '"sqlite://"', "store.events", "no database file"),
        ('"sqlite:///{data}/events.sqlite"', '"http://[x"', "store.events", "URL of a database"),
        ('"sqlite:///views.sqlite"', '"views"', "store.projections", "URL of a database"),
        ('"file://recordings"', '"recordings"', "store.blobs", "s3://BUCKET/PREFIX"),
        ('"file://recordings"', '"s3:///x"', "store.blobs", "s3://BUCKET/PREFIX"),
        ('data = "data"', 'data = ""', "data", "is not a path"),
        ('"data/tls.key"', '"data/\\u0000"', "identity.tls_key", "is not a path"),
        ("https://bravo.example:8026/", "http://bravo", "servers[1].url", "write https://"),
        ("https://bravo.example:8026/", "https://", "servers[1].url", "write https://"),
        ("https://bravo.example:8026/", "https://b:99999", "servers[1].url", "write https://"),
        ("https://bravo.example:8026/", "https://u:p@b", "servers[1].url", "write https://"),
        ("https://bravo.example:8026/", "https://b/?q=1", "servers[1].url", "write https://"),
        ('certificate = "peers/bravo.crt"', "", "servers[1].certificate", "name the file"),
        (
            'voicemail_for = ["busy", ',
            'voicemail_for = ["busyy", ',
            "calls.voicemail_for[0]",
            "mean 'busy'?",
        ),
        ('["busy", ', '["abandoned", ', "calls.voicemail_for", "nobody is left on the line"),
        ("voicemail_for = []", 'voicemail_for = ["answered"]', "mailboxes[0].voicemail_for", "no"),
        ("min_message_duration_s = 2", "min_message_duration_s = 121", "calls.min_mess", "smaller"),
        ("max_message_duration_s = 60", "max_message_duration_s = 1", "mailboxes[0].m", "smaller"),
        ('extensions = ["20*"]', "", "mailboxes[0].extensions", "is missing"),
        ('extensions = ["20*"]', 'extensions = ["2-1"]', "mailboxes[0].extensions[0]", "as 1-2"),
        ('"30*"', "30", "servers[1].extensions[0]", "expected text, got a whole"),
        ('"30*"', '"3*0"', "servers[1].extensions[0]", "a prefix"),
        ('"1*@default"', '"2990-3010@default"', "servers[1].extensions[2]", "claim 2990"),
        ('"1*@default"', '"2000-2999@default"', "servers[1].extensions[2]", "claim 2000"),
        ('"1*@default"', '"4711@default"', "servers[1].extensions[2]", "both claim 4711"),
    ],
)
def test_problem_is_named_with_its_place_line_and_remedy(bench, old, new, place, message):
    bench.change(old, new)
    problem = bench.only_problem(with_machine=False)
    assert problem.startswith(f"vmledger.toml: {place}")
    assert message in problem
    assert "; " in problem
    assert " (line " in problem


@pytest.mark.parametrize(
    ("part", "replacement"),
    [
        ("in_flight = 3", "in_flight = 0"),
        ('"2500-2599",', '"2500-259",'),
        ('"1*@default"', '"1**@default"'),
        ('"30*",', '"3 0*",'),
        ('voicemail_for = ["busy"', 'voicemail_for = ["busyy"'),
        ("https://bravo.example", "ftp://bravo.example"),
        ('signing_key = "{data}/server.key"', 'signing_kee = ""'),
    ],
)
def test_line_is_where_an_editor_shows_it(bench, part, replacement):
    line = bench.line_of(part)
    bench.change(part, replacement)
    assert f"(line {line})" in bench.only_problem(with_machine=False)


def test_missing_key_is_shown_at_its_table(bench):
    line = bench.line_of('id = "bravo"')
    bench.change('url = "https://bravo.example:8026/"\n', "")
    problem = bench.only_problem(with_machine=False)
    assert problem.startswith(f"vmledger.toml: servers[1].url (line {line - 1}): is missing; add")


def test_all_problems_come_at_once(bench):
    bench.change("in_flight = 3", "in_flight = 0")
    bench.change('"30*"', '"3*0"')
    bench.change('api = "127.0.0.1:9025"', 'api = "x"')
    bench.change('url = "https://alpha.example:8026"', "")
    bench.change("[limits]", "[limitz]")
    bench.change('"{data}/server.key"', '"absent.key"')
    found = bench.problems()
    assert len(found) == 6
    for place in (
        "replication.in_flight",
        "servers[1].extensions[0]",
        "listen.api",
        "servers[0].url",
        "limitz",
        "identity.signing_key",
    ):
        assert sum(f": {place} (line" in problem for problem in found) == 1, place


def test_error_is_one_line_a_problem(bench):
    bench.change("in_flight = 3", "in_flight = 0")
    bench.change('"30*"', '"3*0"')
    with pytest.raises(ConfigurationError) as raised:
        bench.load()
    assert str(raised.value).split("\n") == raised.value.problems


def test_two_servers_with_one_name_are_refused(bench):
    bench.change('id = "bravo"', 'id = "alpha"')
    assert "server 'alpha' is also servers[0]" in bench.problems(with_machine=False)[0]


def test_two_servers_with_one_key_are_refused(bench):
    key = load_configuration(bench.file).directory.own.public_key
    other = load_configuration(bench.file).directory.entry("bravo").public_key
    bench.change(public_key_text(other), public_key_text(key))
    problem = bench.only_problem(with_machine=False)
    assert "servers[1].public_key" in problem
    assert "is the key of servers[0] too" in problem


def test_public_key_of_another_machine_is_refused(bench):
    own = load_configuration(bench.file).directory.own.public_key
    bench.change(public_key_text(own), public_key_text(generate_identity("x").public_key))
    assert "servers[0].public_key" in bench.only_problem()
    assert bench.load(with_machine=False)


def test_text_that_is_no_public_key_is_refused_once(bench):
    own = load_configuration(bench.file).directory.own.public_key
    bench.change(public_key_text(own), "AAAA")
    assert "32-byte Ed25519 public key" in bench.only_problem()


@pytest.mark.parametrize("name", ["server.key", "tls.key", "master.key"])
def test_key_that_others_can_read_is_refused(bench, name):
    (bench.file.parent / "data" / name).chmod(0o644)
    bench.change('api_certificate = "{data}/tls.crt"\napi_key = "{data}/tls.key"\n', "")
    assert "chmod 600" in bench.only_problem()


def test_certificate_of_another_key_is_refused(bench):
    other = (bench.file.parent / "peers/bravo.crt").read_bytes()
    (bench.file.parent / "data/tls.crt").write_bytes(other)
    found = bench.problems()
    assert [problem.split(" ")[1] for problem in found] == [
        "identity.tls_certificate",
        "listen.api_certificate",
    ]
    assert all("made together" in problem for problem in found)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_peer_without_a_readable_certificate_is_refused(bench, content):
    path = bench.file.parent / "peers/bravo.crt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert "servers[1].certificate" in bench.only_problem()


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('"sqlite:///{data}/events.sqlite"', '"sqlite:///vmledger.toml/x"', "store.events"),
        ('"sqlite:///views.sqlite"', '"sqlite:///vmledger.toml/a/x"', "store.projections"),
        ('"file://recordings"', '"file://vmledger.toml"', "store.blobs"),
        ('"file://recordings"', f'"file://{"x" * 300}"', "store.blobs"),
    ],
)
def test_place_that_cannot_be_written_is_refused(bench, old, new, place):
    bench.change(old, new)
    assert bench.only_problem().startswith(f"vmledger.toml: {place} (line ")


@contextmanager
def unprivileged():
    """Act as nobody where the tests run as root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_directory_without_the_right_to_write_is_refused():
    problems = Problems("vmledger.toml")
    with TemporaryDirectory() as outside:  # the folders of pytest are closed to nobody
        Path(outside).chmod(0o755)
        closed = Path(outside, "closed")
        closed.mkdir(mode=0o555)
        with unprivileged():
            check_writable(closed / "recordings", ("store", "blobs"), problems)
    with pytest.raises(ConfigurationError, match="closed refuses this user; name a directory"):
        problems.raise_any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"server = ", "this is not TOML"),
        (b"\xff", "not UTF-8"),
        (b"x = " + b"[" * 5000, "nested too deeply"),
        (b"x = " + b"9" * 5000, "this is not TOML"),
        (b"", "server: is missing"),
        (b'server = "a"\nservers = 3', "servers (line 2): is a number and not a list of tables"),
        (b'server = "a"\nlisten = 3', "listen (line 2): is a number and not a table"),
        (b'server = "a"\nservers = [1]', "servers[0] (line 2): is a number and not a table"),
    ],
)
def test_file_that_is_no_configuration_is_refused(tmp_path, content, message):
    path = tmp_path / "vmledger.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as raised:
        load_configuration(path)
    assert any(message in problem for problem in raised.value.problems), raised.value.problems


def test_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigurationError, match="make one with `vmledger init`"):
        load_configuration(tmp_path / "vmledger.toml")


def test_directory_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load_configuration(tmp_path)
