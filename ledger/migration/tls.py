"""TLS between servers: both sides show a certificate, and only pinned ones are accepted.

The certificates are self-signed and named one by one in the configuration; no authority is asked.
There is no fall-back to plain text.

Source: RFC 8446 (TLS 1.3); claim 13 (information about remote servers).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from ledger.configuration import Configuration, IdentityFiles
from ledger.errors import CallerError


def client_context(files: IdentityFiles, pinned: Path) -> ssl.SSLContext:
    """Make the context for connections to the one peer that has this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The pin says who it is, whatever name or address it is reached by.
    context.check_hostname = False
    return _prepared(context, files, [pinned])


def server_context(config: Configuration) -> ssl.SSLContext:
    """Make the context of the listener for all peers of the configuration."""
    pinned = [p.certificate for p in config.directory.peers if p.certificate is not None]
    return _prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), config.identity, pinned)


def _prepared(
    context: ssl.SSLContext, files: IdentityFiles, pinned: Iterable[Path]
) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    # A pinned certificate is trusted as it is: it need not be an authority.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    try:
        context.load_cert_chain(files.tls_certificate, files.tls_key)
        for certificate in pinned:
            context.load_verify_locations(certificate)
    except (OSError, ssl.SSLError) as error:
        raise CallerError(
            f"a certificate or key for TLS between servers cannot be used: {error}; "
            "compare the files that [identity] and [[servers]] name"
        ) from error
    return context
