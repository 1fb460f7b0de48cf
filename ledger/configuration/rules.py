"""What one key alone cannot say: how keys, servers and claims must fit together.

Source: claims 6 and 13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, tzinfo
from functools import partial
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger.call_status import VoicemailPolicy
from ledger.configuration.bandwidth import BandwidthPlan, parse_hours
from ledger.configuration.directory import ServerEntry, parse_claim
from ledger.configuration.patterns import Claim, find_clashes
from ledger.configuration.problems import KeyPath, Problems, show_path
from ledger.configuration.resolving import Places
from ledger.configuration.schema import ConfigurationFile, Mailboxes, Server
from ledger.errors import CallerError
from ledger.events import CallStatus
from ledger.identity import parse_public_key

PlacedClaim: TypeAlias = tuple[tuple[str, int, str, int], Claim]
"""A claim and where it stands: table, place in it, key, place in the list."""

Read = TypeVar("Read")
Entry = TypeVar("Entry", Server, Mailboxes)


def readable(entries: Iterable[Entry | None]) -> Iterator[tuple[int, Entry]]:
    """Give the entries that could be read, with their places in the file."""
    return ((n, entry) for n, entry in enumerate(entries) if entry is not None)


def noting(problems: Problems, path: KeyPath, read: Callable[[], Read]) -> Read | None:
    """Read something; a CallerError becomes a problem at ``path`` and gives None."""
    try:
        return read()
    except CallerError as error:
        what, _, advice = error.message.partition("; ")
        problems.add(path, what, advice)
        return None


def check_sections(form: ConfigurationFile, problems: Problems) -> None:
    """Check the keys that must fit together within and between tables."""
    _check_policy(form.calls.voicemail_for, ("calls", "voicemail_for"), problems)
    for n, mailboxes in readable(form.mailboxes):
        path = ("mailboxes", n, "voicemail_for")
        _check_policy(mailboxes.voicemail_for or (), path, problems)
        _check_durations(form, mailboxes, n, problems)
    calls, replication = form.calls, form.replication
    if calls.min_message_duration_s >= calls.max_message_duration_s:
        problems.add(
            ("calls", "min_message_duration_s"),
            "leaves no duration that a message could have",
            "make it smaller than max_message_duration_s",
        )
    if replication.backoff_min_s > replication.backoff_max_s:
        problems.add(
            ("replication", "backoff_min_s"),
            "is larger than backoff_max_s",
            "make it the smaller of the two",
        )


def _check_policy(statuses: Sequence[CallStatus], path: KeyPath, problems: Problems) -> None:
    noting(problems, path, partial(VoicemailPolicy, voicemail_for=frozenset(statuses)))


def _check_durations(
    form: ConfigurationFile, mailboxes: Mailboxes, n: int, problems: Problems
) -> None:
    own_min, own_max = mailboxes.min_message_duration_s, mailboxes.max_message_duration_s
    shortest = form.calls.min_message_duration_s if own_min is None else own_min
    longest = form.calls.max_message_duration_s if own_max is None else own_max
    if (own_min, own_max) != (None, None) and shortest >= longest:
        key = "max_message_duration_s" if own_min is None else "min_message_duration_s"
        problems.add(
            ("mailboxes", n, key),
            "leaves no duration that a message could have",
            "make the shortest duration smaller than the longest",
        )


def resolve_servers(
    form: ConfigurationFile, places: Places, problems: Problems
) -> Iterator[ServerEntry]:
    """Turn `[[servers]]` into entries of the directory, noting what is wrong with them."""
    _check_names(form, problems)
    zone = _zone(form.replication.time_zone, problems)
    claims = list(claims_of_servers(form, problems))
    _check_clashes(claims, problems)
    is_named = any(server.id == form.server for _, server in readable(form.servers))
    for n, server in readable(form.servers):
        path = ("servers", n, "public_key")
        key = noting(problems, path, partial(parse_public_key, server.public_key))
        path = ("servers", n, "certificate")
        if server.certificate is None and is_named and server.id != form.server:
            problems.add(
                path, "is missing", "copy that server's TLS certificate here and name the file"
            )
        if not is_peer_url(server.url):
            problems.add(
                ("servers", n, "url"),
                "is not an https URL of only a host, a port and a path",
                "write https://HOST:PORT of its replication listener",
            )
        yield ServerEntry(
            id=server.id,
            url=server.url.rstrip("/"),
            public_key=key or b"",
            certificate=places.path(server.certificate, path) if server.certificate else None,
            claims=tuple(claim for at, claim in claims if at[1] == n),
            mirrors=_mirrors(form, server, n, problems),
            bandwidth=_bandwidth(server, n, zone, problems),
        )


def _mirrors(
    form: ConfigurationFile, server: Server, n: int, problems: Problems
) -> tuple[str, ...]:
    known = [other.id for _, other in readable(form.servers)]
    for m, mirror in enumerate(server.mirrors):
        path = ("servers", n, "mirrors", m)
        if mirror == server.id:
            what = "is the server itself"
            problems.add(path, what, "name another server: a copy on the same disk is none")
        elif mirror not in known and None not in form.servers:
            what = f"server {mirror!r} is not among [[servers]], which names {', '.join(known)}"
            problems.add(path, what, "add its [[servers]] table, or correct the name")
        elif mirror in server.mirrors[:m]:
            problems.add(path, f"names {mirror!r} a second time", "keep one of the two")
    return server.mirrors


def _zone(name: str, problems: Problems) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        what = f"{name!r} is no time zone that this machine knows"
        advice = "write a name like Europe/Berlin, and install the system's time zones (tzdata)"
        problems.add(("replication", "time_zone"), what, advice)
        return UTC


def _bandwidth(server: Server, n: int, zone: tzinfo, problems: Problems) -> BandwidthPlan:
    read = (
        noting(problems, ("servers", n, "send_hours", m), partial(parse_hours, text))
        for m, text in enumerate(server.send_hours)
    )
    hours = tuple(one for one in read if one is not None)
    return BandwidthPlan(bytes_per_s=server.max_send_bytes_per_s, hours=hours, zone=zone)


def _check_names(form: ConfigurationFile, problems: Problems) -> None:
    first: dict[str, int] = {}
    keys: dict[str, int] = {}
    for n, server in readable(form.servers):
        earlier = first.setdefault(server.id, n)
        if earlier != n:
            what = f"server {server.id!r} is also servers[{earlier}]"
            problems.add(("servers", n, "id"), what, "keep one of the two")
        owner = keys.setdefault(server.public_key, n)
        if owner != n:
            what = f"is the key of servers[{owner}] too"
            advice = "give each server its own; a copied machine needs a new `vmledger init`"
            problems.add(("servers", n, "public_key"), what, advice)
    if form.server not in first and None not in form.servers:
        known = ", ".join(first) or "none"
        what = f"server {form.server!r} is not among [[servers]], which names {known}"
        problems.add(("server",), what, "add its [[servers]] table, or correct the name")


def is_peer_url(url: str) -> bool:
    """Is this ``https://HOST[:PORT][/PATH]``, and nothing more?"""
    try:
        parts = urlsplit(url)
        is_complete = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    has_more = bool(parts.username or parts.query or parts.fragment)
    return is_complete and not has_more and url.isprintable() and " " not in url


def claims_of_servers(form: ConfigurationFile, problems: Problems) -> Iterator[PlacedClaim]:
    """Give all valid claims of servers."""
    yield from _claims("servers", form.servers, problems)


def claims_of_mailboxes(form: ConfigurationFile, problems: Problems) -> list[PlacedClaim]:
    """Give all valid claims of `[[mailboxes]]`, noting those of which neither wins."""
    claims = list(_claims("mailboxes", form.mailboxes, problems))
    _check_clashes(claims, problems)
    return claims


def _claims(
    table: str, entries: Iterable[Entry | None], problems: Problems
) -> Iterator[PlacedClaim]:
    for n, section in readable(entries):
        for m, text in enumerate(section.extensions):
            path = (table, n, "extensions", m)
            claim = noting(problems, path, partial(parse_claim, text, section.context))
            if claim is not None:
                yield path, claim


def _check_clashes(claims: Sequence[PlacedClaim], problems: Problems) -> None:
    """Note every pair of claims of two owners of which neither wins."""
    for one, other, shared in find_clashes([claim for _, claim in claims]):
        (mine, my_claim), (theirs, their_claim) = claims[one], claims[other]
        if mine[1] == theirs[1]:
            continue  # a server may say the same thing twice
        what = (
            f"{their_claim} and {my_claim} of {show_path(mine)} both claim {shared}, "
            "and neither lies within the other"
        )
        problems.add(theirs, what, "take the shared extensions out of one of them")
