"""Loading a good file: every key reaches the program."""

import tomllib

import msgspec
import pytest

from ledger.configuration import Configuration, load_configuration
from ledger.configuration import schema as declared
from ledger.configuration.documentation import default_of, describe_key, describe_section
from ledger.events import CallStatus
from ledger.ids import MailboxAddress
from tests.support.configuration import EVERY_KEY
from vmledger.configuration_reference import section_of

SECTIONS = [
    (field.name, *section_of(field.type))
    for field in msgspec.structs.fields(declared.ConfigurationFile)
    if section_of(field.type)[0] is not None
]
SAMPLE = tomllib.loads(EVERY_KEY)


def keys_of(section):
    return {field.name for field in msgspec.structs.fields(section)}


def test_sample_sets_every_key_of_every_table():
    assert len(SECTIONS) == 10
    assert set(SAMPLE) == keys_of(declared.ConfigurationFile)
    for name, section, is_repeated in SECTIONS:
        tables = SAMPLE[name] if is_repeated else [SAMPLE[name]]
        assert set().union(*tables) == keys_of(section), name


def test_every_key_and_table_is_documented_where_it_is_declared():
    for name, section, _ in SECTIONS:
        assert describe_section(section), name
        for key in keys_of(section):
            assert describe_key(section, key).endswith("."), f"{name}.{key}"
    assert describe_key(declared.ConfigurationFile, "server")


def test_every_tuning_key_of_the_sample_reaches_the_program(bench):
    configuration = bench.load()
    checked = 0
    for name in ("listen", "calls", "profiles", "replication", "retention", "limits"):
        section = getattr(configuration, name)
        for field in msgspec.structs.fields(type(section)):
            value = msgspec.to_builtins(getattr(section, field.name))
            assert (list(value) if isinstance(value, tuple) else value) == SAMPLE[name][field.name]
            assert value != default_of(field), f"{name}.{field.name} is tested with its default"
            checked += 1
    assert checked == 41


def test_paths_are_absolute_and_relative_to_the_file(bench):
    base = bench.file.parent
    configuration = bench.load()
    assert configuration.file == bench.file
    assert configuration.data == base / "data"
    assert configuration.stores.events == f"sqlite:///{base}/data/events.sqlite"
    assert configuration.stores.projections == f"sqlite:///{base}/views.sqlite"
    assert configuration.stores.blobs == f"file://{base}/recordings"
    assert configuration.identity.signing_key == base / "data/server.key"
    assert configuration.identity.tls_key == base / "data/tls.key"
    assert configuration.identity.tls_certificate == base / "data/tls.crt"
    assert configuration.identity.master_key == base / "data/master.key"
    assert configuration.api_tls is not None
    assert configuration.api_tls.certificate == base / "data/tls.crt"
    assert configuration.api_tls.key == base / "data/tls.key"
    assert configuration.directory.servers["bravo"].certificate == base / "peers/bravo.crt"


def test_addresses_are_taken_apart(bench):
    configuration = bench.load()
    assert configuration.api_address == ("127.0.0.1", 9025)
    assert configuration.replication_address == ("::1", 9026)
    assert str(configuration.replication_address) == "[::1]:9026"


@pytest.mark.parametrize(
    ("mailbox", "home"),
    [
        ("2001", "alpha"),
        ("4711", "alpha"),
        ("2501", "alpha"),
        ("2501@sales", "bravo"),
        ("3001@sales", "bravo"),
        ("3001", None),
        ("1234", "bravo"),
        ("1234@sales", None),
    ],
)
def test_home_of_a_mailbox(bench, mailbox, home):
    found = bench.load().directory.home_of(MailboxAddress.parse(mailbox))
    assert (found.id if found else None) == home


def test_peers_are_all_other_servers(bench):
    directory = bench.load().directory
    assert directory.own.id == "alpha"
    assert [peer.id for peer in directory.peers] == ["bravo"]
    assert directory.entry("bravo").url == "https://bravo.example:8026"


def test_policy_is_that_of_the_server_unless_the_mailbox_has_its_own(bench):
    configuration = bench.load()
    policy = configuration.policy_of(MailboxAddress("4711"))
    assert policy.voicemail_for == {CallStatus.BUSY, CallStatus.UNKNOWN_NUMBER}
    assert configuration.policy_of(MailboxAddress("2001")).voicemail_for == frozenset()
    assert configuration.calls_for(MailboxAddress("2001")).max_message_duration_s == 60
    assert configuration.calls_for(MailboxAddress("2001")).max_upload_bytes == 1_000_000


def test_mailbox_exception_keeps_what_it_does_not_change(bench):
    bench.change("voicemail_for = []\n", "")
    policy = bench.load().policy_of(MailboxAddress("2001"))
    assert policy.voicemail_for == {CallStatus.BUSY, CallStatus.UNKNOWN_NUMBER}


def test_retention_is_that_of_the_server_unless_the_mailbox_has_its_own(bench):
    bench.change("trash_after_days = 7\nerase_trash_after_days = 1\n", "trash_after_days = 7\n")
    configuration = bench.load()
    own = configuration.retention_for(MailboxAddress("2001"))
    assert (own.trash_after_days, own.erase_trash_after_days) == (7, 30)
    assert configuration.retention_for(MailboxAddress("4711")) == configuration.retention


def test_read_models_of_a_postgresql_log_are_in_its_database_by_default(bench):
    bench.change('"sqlite:///{data}/events.sqlite"', '"postgresql://db.example/ledger"')
    bench.change('projections = "sqlite:///views.sqlite"\n', "")
    stores = bench.load().stores
    assert stores.events == stores.projections == "postgresql://db.example/ledger"


def test_read_models_of_a_sqlite_log_have_a_file_of_their_own_by_default(bench):
    bench.change('projections = "sqlite:///views.sqlite"\n', "")
    assert bench.load().stores.projections.endswith("/data/projections.sqlite")


def test_recordings_can_be_in_s3(bench):
    bench.change('"file://recordings"', '"s3://bucket/voicemail?endpoint=http://127.0.0.1:9000"')
    assert bench.load().stores.blobs.startswith("s3://bucket/voicemail?endpoint=")


def test_environment_changes_nothing(bench, monkeypatch):
    before = bench.load().listen
    for name in ("VMLEDGER_LISTEN_API", "LISTEN__API", "API"):
        monkeypatch.setenv(name, "127.0.0.1:1")
    assert bench.load().listen == before


def test_loading_changes_nothing_on_disk(bench):
    bench.change('data = "data"', 'data = "elsewhere"')
    for name in ("tls", "server", "master"):
        bench.text = bench.text.replace(f"{{data}}/{name}", f"data/{name}")
    bench.load()
    assert not (bench.file.parent / "elsewhere").exists()


def test_configuration_of_a_simulation_needs_no_file(bench):
    loaded = bench.load()
    made = Configuration(
        server="alpha",
        file=loaded.file,
        data=loaded.data,
        directory=loaded.directory,
        stores=loaded.stores,
        identity=loaded.identity,
    )
    assert made.policy_of(MailboxAddress("2001")).voicemail_for


def test_file_is_found_relative_to_the_working_directory(bench, monkeypatch):
    monkeypatch.chdir(bench.file.parent)
    assert load_configuration(bench.file.relative_to(bench.file.parent)).file == bench.file
