"""Read ``vmledger.toml``, resolve it and refuse to go on when anything is doubtful.

Source: claims 6 and 13.
"""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path

from ledger.configuration.checks import check_machine
from ledger.configuration.configuration import (
    ApiTls,
    Configuration,
    IdentityFiles,
    parse_address,
)
from ledger.configuration.directory import Directory
from ledger.configuration.patterns import PatternIndex
from ledger.configuration.problems import ConfigurationError, Problems
from ledger.configuration.reading import read_section
from ledger.configuration.resolving import Places, resolve_stores
from ledger.configuration.rules import (
    check_sections,
    claims_of_mailboxes,
    noting,
    readable,
    resolve_servers,
)
from ledger.configuration.schema import ConfigurationFile, Mailboxes


def load_configuration(path: Path, *, with_machine: bool = True) -> Configuration:
    """Read and check a configuration file.

    ``with_machine`` also looks at what the file names: keys, certificates, directories. Without it
    only the text is judged, which needs no access to secrets. Nothing is created or changed.
    Raises ConfigurationError with all problems that were found.
    """
    text = _read_text(path)
    table = _parse(path, text)
    problems = Problems(path.name, text)
    form = read_section(ConfigurationFile, table, (), problems)
    if form is None:
        problems.raise_any()
        raise AssertionError("an unreadable section is always noted as a problem")
    configuration = _resolve(path, form, problems)
    if with_machine:
        check_machine(configuration, form, problems)
    problems.raise_any()
    return configuration


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise ConfigurationError(
            [f"{path}: there is no such file; make one with `vmledger init`, or name another one"]
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            [f"{path}: the file cannot be read ({reason}); make it a readable text file"]
        ) from error


def _parse(path: Path, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigurationError(
            [f"{path.name}: the file is nested too deeply; write its tables as [headers]"]
        ) from error
    except ValueError as error:  # TOMLDecodeError, or a number with thousands of digits
        raise ConfigurationError(
            [f"{path.name}: this is not TOML: {error}; correct it there"]
        ) from error


def _resolve(path: Path, form: ConfigurationFile, problems: Problems) -> Configuration:
    places = Places(path.absolute().parent, form.data, problems)
    check_sections(form, problems)
    _check_addresses(form, problems)
    return Configuration(
        server=form.server,
        file=path.absolute(),
        data=places.data,
        directory=Directory(form.server, resolve_servers(form, places, problems)),
        stores=resolve_stores(form.store, places, problems),
        identity=_identity_files(form, places),
        listen=form.listen,
        api_tls=_api_tls(form, places, problems),
        calls=form.calls,
        exceptions=_exceptions(form, problems),
        replication=form.replication,
        profiles=form.profiles,
        retention=form.retention,
        limits=form.limits,
    )


def _exceptions(form: ConfigurationFile, problems: Problems) -> PatternIndex[Mailboxes]:
    entries = dict(readable(form.mailboxes))
    claims = claims_of_mailboxes(form, problems)
    return PatternIndex([(claim, entries[place]) for (_, place, _, _), claim in claims])


def _identity_files(form: ConfigurationFile, places: Places) -> IdentityFiles:
    files = form.identity
    return IdentityFiles(
        signing_key=places.path(files.signing_key, ("identity", "signing_key")),
        tls_key=places.path(files.tls_key, ("identity", "tls_key")),
        tls_certificate=places.path(files.tls_certificate, ("identity", "tls_certificate")),
        master_key=places.path(files.master_key, ("identity", "master_key")),
        master_key_command=tuple(places.fill_in(part) for part in files.master_key_command),
    )


def _api_tls(form: ConfigurationFile, places: Places, problems: Problems) -> ApiTls | None:
    certificate, key = form.listen.api_certificate, form.listen.api_key
    if certificate is not None and key is not None:
        return ApiTls(
            certificate=places.path(certificate, ("listen", "api_certificate")),
            key=places.path(key, ("listen", "api_key")),
        )
    if certificate is not None or key is not None:
        present, missing = ("api_certificate", "api_key")[:: 1 if key is None else -1]
        problems.add(
            ("listen", present), f"needs {missing} beside it", f"add {missing} or remove both"
        )
    return None


def _check_addresses(form: ConfigurationFile, problems: Problems) -> None:
    noting(problems, ("listen", "api"), partial(parse_address, form.listen.api))
    noting(problems, ("listen", "replication"), partial(parse_address, form.listen.replication))
