"""The TLS certificate of a server: self-signed, because its peers pin it and ask no authority.

Source: RFC 5280 (profile), RFC 5480 (P-256).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FOR: Final = timedelta(days=3653)
"""Ten years: a pinned certificate that runs out stops replication, and the pin is what protects."""

CLOCK_TOLERANCE: Final = timedelta(days=1)
"""Valid from a day ago, so that a peer whose clock is behind accepts a fresh server."""


def make_tls_pair(server_id: str, hosts: Iterable[str], now: datetime) -> tuple[bytes, bytes]:
    """Make a new P-256 key and its self-signed certificate, both PEM, for server and client use."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _describe(server_id, hosts, now, key.public_key()).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key_pem, certificate.public_bytes(serialization.Encoding.PEM)


def _describe(
    server_id: str, hosts: Iterable[str], now: datetime, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    # No key usage is stated: with one that leaves out signing certificates OpenSSL would not take
    # the certificate as its own issuer, and with one that has it the server would be an authority.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, server_id)])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    names = dict.fromkeys([server_id, "localhost", "127.0.0.1", *hosts])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
