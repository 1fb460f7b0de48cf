"""Does the machine hold what the configuration names? Keys, certificates, directories.

Looks only: nothing is created or changed, so that a check never makes its own answer true.

Source: claims 6, 10 and 13.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from ledger.configuration.configuration import Configuration
from ledger.configuration.master_key import expect_master_key
from ledger.configuration.problems import KeyPath, Problems
from ledger.configuration.rules import noting, readable
from ledger.configuration.schema import ConfigurationFile
from ledger.errors import CallerError
from ledger.identity import load_identity, read_private_file


def check_machine(
    configuration: Configuration, form: ConfigurationFile, problems: Problems
) -> None:
    """Note everything that would keep this configuration from working on this machine."""
    for place, key in _written_places(configuration):
        check_writable(place, key, problems)
    _check_signing_key(configuration, form, problems)
    files = configuration.identity
    master = "master_key_command" if files.master_key_command else "master_key"
    noting(problems, ("identity", master), partial(expect_master_key, files))
    _check_pair(
        (files.tls_certificate, ("identity", "tls_certificate")),
        (files.tls_key, ("identity", "tls_key")),
        problems,
    )
    if configuration.api_tls is not None:
        _check_pair(
            (configuration.api_tls.certificate, ("listen", "api_certificate")),
            (configuration.api_tls.key, ("listen", "api_key")),
            problems,
        )
    for n, server in readable(form.servers):
        entry = configuration.directory.servers[server.id]
        if entry.certificate is not None:
            path = ("servers", n, "certificate")
            noting(problems, path, partial(load_certificate, entry.certificate))


def _written_places(configuration: Configuration) -> Iterator[tuple[Path, KeyPath]]:
    """Give the directories that the server writes to, with their keys."""
    yield configuration.data, ("data",)
    stores = configuration.stores
    for key in ("events", "projections"):
        url = getattr(stores, key)
        if url.startswith("sqlite:///"):
            yield Path(url.removeprefix("sqlite:///")).parent, ("store", key)
    if stores.blobs.startswith("file://"):
        yield Path(stores.blobs.removeprefix("file://")), ("store", "blobs")


def check_writable(path: Path, key: KeyPath, problems: Problems) -> None:
    """A directory must exist and be writable, or be creatable below one that is."""
    advice = "name a directory that the server's user may write, or give it the right"
    try:
        existing = next(p for p in (path, *path.parents) if p.exists())
        if not existing.is_dir():
            problems.add(key, f"cannot be a directory: {existing} is a file", advice)
        elif not os.access(existing, os.W_OK | os.X_OK, effective_ids=True):
            problems.add(key, f"is not writable: {existing} refuses this user", advice)
    except OSError as error:
        problems.add(key, f"cannot be reached: {path}: {error.strerror}", advice)


def _check_signing_key(
    configuration: Configuration, form: ConfigurationFile, problems: Problems
) -> None:
    path = ("identity", "signing_key")
    identity = noting(
        problems,
        path,
        partial(load_identity, configuration.server, configuration.identity.signing_key),
    )
    for n, server in readable(form.servers):
        if identity is None or server.id != configuration.server:
            continue
        listed = configuration.directory.servers[server.id].public_key
        if listed and listed != identity.public_key:
            what = f"does not belong to {configuration.identity.signing_key}"
            advice = "put the key that `vmledger config peers` prints there, or the right file back"
            problems.add(("servers", n, "public_key"), what, advice)


def _check_pair(
    certificate: tuple[Path, KeyPath], key: tuple[Path, KeyPath], problems: Problems
) -> None:
    """A certificate and a private key must be readable and belong together."""
    public = noting(problems, certificate[1], partial(_certificate_key, certificate[0]))
    private = noting(problems, key[1], partial(_private_key, key[0]))
    if public is not None and private is not None and public != private:
        what = f"does not belong to the key in {key[0]}"
        problems.add(certificate[1], what, "name the two files that were made together")


def _certificate_key(path: Path) -> PublicKeyTypes:
    return load_certificate(path).public_key()


def _private_key(path: Path) -> PublicKeyTypes:
    pem = read_private_file(path)
    try:
        return serialization.load_pem_private_key(pem, password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CallerError(
            f"{path} is not an unencrypted PEM private key; restore it from your backup"
        ) from error


def load_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file; raises CallerError."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CallerError(
            f"{path} cannot be read ({error.strerror}); copy that certificate there"
        ) from error
    except ValueError as error:
        raise CallerError(
            f"{path} is not a PEM certificate; copy the server's tls.crt there again"
        ) from error
