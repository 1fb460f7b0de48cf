"""Making servers: what is written, what is never overwritten, and that it works."""

import stat
import tomllib

import msgspec
import pytest
from cryptography import x509

from ledger.configuration import Listen, load_configuration, schema
from ledger.configuration.documentation import default_of
from ledger.errors import CallerError, ConflictError
from ledger.identity import load_identity, verify_signature
from ledger.ids import MailboxAddress
from tests.support.configuration import NOW
from vmledger.cluster import write_cluster
from vmledger.configuration_text import configuration_text
from vmledger.init import init_server, servers_block

IDS = ["alpha", "bravo", "charlie"]
EXTENSIONS = {"alpha": ["2000-2999"], "bravo": ["30*"], "charlie": ["*"]}
PORTS = {"alpha": (8201, 8202), "bravo": (8203, 8204), "charlie": (8205, 8206)}


@pytest.fixture
def made(tmp_path):
    return init_server(
        tmp_path / "alpha",
        "alpha",
        extensions=["2000-2999"],
        url="https://alpha.example:8026",
        now=NOW,
    )


def test_new_server_has_a_configuration_that_loads(made):
    configuration = load_configuration(made.configuration_file)
    assert configuration.server == "alpha"
    assert configuration.directory.home_of(MailboxAddress("2001")).id == "alpha"
    assert configuration.directory.own.url == "https://alpha.example:8026"


def test_only_the_owner_can_read_keys_and_data(made):
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in made.files}
    assert {modes[key] for key in ("server.key", "tls.key", "master.key")} == {0o600}
    assert stat.S_IMODE(made.data.stat().st_mode) == 0o700


def test_new_server_has_empty_stores(made):
    assert list((made.data / "blobs").iterdir()) == []


def test_every_file_is_listed_and_nothing_else_is_made(made):
    found = {path for path in made.directory.rglob("*") if path.is_file()}
    assert found == set(made.files)


@pytest.mark.parametrize(
    "name", ["vmledger.toml", "data/server.key", "data/tls.key", "data/master.key"]
)
def test_nothing_is_overwritten(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    with pytest.raises(ConflictError, match="is not overwritten"):
        init_server(tmp_path, "alpha", now=NOW)
    assert path.read_text() == "precious"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize(
    "wrong",
    [
        {"server_id": "Alpha"},
        {"server_id": "alpha\n"},
        {"server_id": ""},
        {"extensions": ["2-1"]},
        {"context": "a b"},
        {"url": "http://alpha.example"},
        {"url": "https://"},
        {"listen": Listen(api="x")},
        {"listen": Listen(replication="x")},
    ],
)
def test_values_that_would_be_refused_later_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(CallerError):
        init_server(tmp_path / "new", **{"server_id": "alpha", "now": NOW, **wrong})
    assert not (tmp_path / "new").exists()


def test_file_explains_every_key(made):
    text = made.configuration_file.read_text()
    for field in msgspec.structs.fields(schema.ConfigurationFile):
        assert field.name in text
    for section in (schema.Listen, schema.Store, schema.Calls, schema.Replication, schema.Limits):
        for field in msgspec.structs.fields(section):
            assert f"{field.name} = " in text


def test_commented_defaults_are_the_defaults(made):
    """With the comment signs of its keys removed, the file still says the same."""
    lines = made.configuration_file.read_text().split("\n")
    shown = [line for line in lines if line.startswith("# ") and " = " in line]
    keys = [line.removeprefix("# ") for line in shown if not line.endswith("...")]
    assert len(keys) > 25
    values = {
        f.name: default_of(f)
        for section in (schema.Store, schema.Identity, schema.Calls, schema.Replication)
        for f in msgspec.structs.fields(section)
    }
    compared = 0
    for line in keys:
        key, value = next(iter(tomllib.loads(line).items()))
        if key in values and key != "voicemail_for":
            told = tuple(value) if isinstance(value, list) else value
            assert told == values[key]
            compared += 1
    assert compared > 18


def test_text_of_a_configuration_reads_back_as_the_same(made):
    form = msgspec.structs.replace(
        made.form,
        calls=schema.Calls(voicemail_for=(), max_message_duration_s=7.5),
        store=schema.Store(projections='sqlite:///odd "name".sqlite'),
    )
    read = tomllib.loads(configuration_text(form))
    assert msgspec.convert(read, schema.ConfigurationFile) == form


def test_certificate_names_the_server_and_lasts_ten_years(made):
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["alpha", "localhost", "alpha.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert certificate.not_valid_before_utc < NOW
    assert (certificate.not_valid_after_utc - NOW).days == 3653


def test_block_for_peers_makes_them_know_the_server(made, tmp_path):
    other = init_server(tmp_path / "bravo", "bravo", extensions=["30*"], url="https://b:1", now=NOW)
    block = servers_block(load_configuration(made.configuration_file))
    assert block == made.servers_block
    with other.configuration_file.open("a") as file:
        file.write("\n" + block)
    (other.directory / "peers").mkdir()
    (other.directory / "peers/alpha.crt").write_bytes(made.certificate.read_bytes())
    directory = load_configuration(other.configuration_file).directory
    assert directory.home_of(MailboxAddress("2001")).id == "alpha"
    assert directory.own.id == "bravo"


def test_block_keeps_contexts(tmp_path):
    made = init_server(
        tmp_path, "alpha", extensions=["1*", "2*@default"], context="sales", url="https://a:1"
    )
    block = tomllib.loads(servers_block(load_configuration(made.configuration_file)))
    assert block["servers"][0]["extensions"] == ["1*@sales", "2*"]


def test_servers_of_a_cluster_agree_on_every_home(tmp_path):
    files = write_cluster(tmp_path, IDS, EXTENSIONS, PORTS, now=NOW)
    assert files == [tmp_path / server / "vmledger.toml" for server in IDS]
    for server, file in zip(IDS, files, strict=True):
        configuration = load_configuration(file)
        assert configuration.server == server
        assert configuration.api_address == ("127.0.0.1", PORTS[server][0])
        homes = [
            configuration.directory.home_of(MailboxAddress(extension)).id
            for extension in ("2001", "3001", "4001")
        ]
        assert homes == IDS


def test_servers_of_a_cluster_know_each_others_keys(tmp_path):
    files = write_cluster(tmp_path, IDS, EXTENSIONS, PORTS, now=NOW)
    loaded = [load_configuration(file) for file in files]
    for signer in loaded:
        signature = load_identity(signer.server, signer.identity.signing_key).sign(b"data")
        for reader in loaded:
            known = reader.directory.entry(signer.server).public_key
            verify_signature(known, signature, b"data", peer=signer.server)


def test_cluster_without_ports_for_a_server_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(CallerError, match="no ports for charlie"):
        write_cluster(tmp_path, IDS, EXTENSIONS, {k: PORTS[k] for k in IDS[:2]}, now=NOW)
    assert list(tmp_path.iterdir()) == []
