"""The certificates that `init` makes work for mutual TLS, and only the pinned ones do."""

import ssl
from functools import partial

import pytest

from vmledger.init import init_server

STRICT = ssl.VERIFY_X509_STRICT
"""What `ssl.create_default_context` demands from Python 3.13 on."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    make = partial(init_server, url="https://127.0.0.1:1")
    return {
        name: make(tmp_path_factory.mktemp(name), name) for name in ("alpha", "bravo", "charlie")
    }


def context(purpose, own, pinned, flags):
    made = ssl.SSLContext(purpose)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= flags
    made.load_cert_chain(own.data / "tls.crt", own.data / "tls.key")
    made.load_verify_locations(pinned.certificate)
    return made


def shake_hands(client_context, server_context, server_name):
    """Do a whole TLS 1.3 handshake in memory, and let the client read what the server says then."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=server_name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    steps = [client.do_handshake, server.do_handshake] * 3
    for step in steps:
        try:
            step()
        except ssl.SSLWantReadError:
            continue
    server.write(b"hello")
    return client.read()


@pytest.mark.parametrize("flags", [ssl.VerifyFlags(0), STRICT], ids=["lax", "strict"])
@pytest.mark.parametrize("name", ["bravo", "127.0.0.1", "localhost"])
def test_pinned_servers_talk(servers, flags, name):
    client = context(ssl.PROTOCOL_TLS_CLIENT, servers["alpha"], servers["bravo"], flags)
    server = context(ssl.PROTOCOL_TLS_SERVER, servers["bravo"], servers["alpha"], flags)
    assert shake_hands(client, server, name) == b"hello"


@pytest.mark.parametrize(
    ("trusted_by_client", "trusted_by_server"), [("charlie", "alpha"), ("bravo", "charlie")]
)
def test_server_that_is_not_pinned_is_refused(servers, trusted_by_client, trusted_by_server):
    none = ssl.VerifyFlags(0)
    client = context(ssl.PROTOCOL_TLS_CLIENT, servers["alpha"], servers[trusted_by_client], none)
    server = context(ssl.PROTOCOL_TLS_SERVER, servers["bravo"], servers[trusted_by_server], none)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, "bravo")
