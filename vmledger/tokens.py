"""Access tokens of the HTTP API: made here, shown once, kept only as a digest.

A token reads ``vml_<id>_<secret>``: the id finds its row, the secret is 256 random bits, so a plain
SHA-256 of the whole is enough to keep (there is nothing to guess) and a copy of the database opens
nothing. The table stands beside the events, so several processes of one server share it.

The local operator's token is the one exception: it also lies in ``operator.token`` in the data
directory, readable by the server's own user only, for the command line on the same machine.

Source: claim 14; RFC 6750.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from ledger.clock import Clock
from ledger.errors import CallerError, ConflictError, NotFoundError, TransientError
from ledger.ids import MailboxAddress
from ledger.storage.row_sums import access_token_sum
from ledger.storage.schema import ACCESS_TOKEN, ROW_SUM
from vmledger.access import Principal, Scope

PREFIX: Final = "vml"
OPERATOR_TOKEN_FILE: Final = "operator.token"  # noqa: S105 - the name of a file, not a secret
LOCAL_OPERATOR: Final = "local-operator"
CACHE_S: Final = 3.0
"""How long a revoked token may still work: what it costs not to ask the database each time."""
TRUSTED_S: Final = 300.0
"""How long a token that was fine goes on working while the database cannot be asked: who watches
the server, and a switch, are needed most just then."""
_CACHED_TOKENS: Final = 1000


class TokenInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token: everything but the token."""

    id: str
    name: str
    scopes: list[Scope]
    mailboxes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class TokenStore:
    """Makes, lists, revokes and checks tokens. Safe to call from any thread."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._table = ACCESS_TOKEN
        self._clock = clock
        self._cache: dict[str, tuple[float, Principal, datetime | None]] = {}
        """By digest: when it was looked up, whose it is, and until when it is valid."""

    def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        *,
        mailboxes: Iterable[MailboxAddress] = (),
        valid_for: timedelta | None = None,
    ) -> str:
        """Make a token and give it, this once; durable on return.

        Raises CallerError for an owner without mailboxes, or mailboxes without an owner.
        """
        granted, addresses = _checked(name, scopes, mailboxes)
        token_id = secrets.token_hex(6)
        token = f"{PREFIX}_{token_id}_{secrets.token_hex(32)}"
        now = self._clock.now()
        row = {
            "id": token_id,
            "name": name,
            "digest": _digest(token),
            "scopes": " ".join(sorted(scope.value for scope in granted)),
            "mailboxes": " ".join(addresses),
            "created_at": _stored_time(now),
            "expires_at": _stored_time(now + valid_for) if valid_for is not None else None,
            "revoked_at": None,
        }
        with _translated(), self._engine.begin() as connection:
            connection.execute(sa.insert(self._table).values(row))
            place, value = access_token_sum(row)
            connection.execute(sa.insert(ROW_SUM).values(place=place, sum=value))
        return token

    def list_tokens(self) -> list[TokenInfo]:
        """Give all tokens, the oldest first, revoked and expired ones among them."""
        query = sa.select(self._table).order_by(self._table.c.created_at, self._table.c.id)
        with _translated(), self._engine.connect() as connection:
            return [_info(row) for row in connection.execute(query).mappings()]

    def revoke(self, token_id: str) -> None:
        """End a token, at once here and within `CACHE_S` in other processes.

        Raises NotFoundError for an unknown id, ConflictError for one revoked before.
        """
        columns = self._table.c
        with _translated(), self._engine.begin() as connection:
            revoked = connection.execute(
                sa.update(self._table)
                .where(columns.id == token_id, columns.revoked_at.is_(None))
                .values(revoked_at=_stored_time(self._clock.now()))
            ).rowcount
            query = sa.select(self._table).where(columns.id == token_id)
            known = connection.execute(query).mappings().one_or_none()
            if known is not None and revoked:
                place, value = access_token_sum(known)
                change = sa.update(ROW_SUM).where(ROW_SUM.c.place == place).values(sum=value)
                connection.execute(change)
        self._cache.clear()
        if known is None:
            raise NotFoundError(f"there is no token {token_id!r}; list them with 'token list'")
        if not revoked:
            raise ConflictError(f"token {token_id!r} was revoked before")

    def recall(self, token: str) -> Principal | None:
        """Give whose token this is if that was found out moments ago; never asks the database."""
        return self._held(token, CACHE_S)

    def _held(self, token: str, for_s: float) -> Principal | None:
        looked_up_s, principal, expires_at = self._cache.get(_digest(token), (0.0, None, None))
        is_expired = expires_at is not None and expires_at <= self._clock.now()
        if principal is None or is_expired or self._clock.monotonic_s() > looked_up_s + for_s:
            return None
        return principal

    def authenticate(self, token: str) -> Principal | None:
        """Say whose token this is; None if it is none of ours, expired or revoked.

        Raises TransientError when the database cannot be asked about a token that was not seen
        within `TRUSTED_S`.
        """
        recalled = self.recall(token)
        if recalled is not None:
            return recalled
        try:
            info = self._look_up(token)
        except TransientError:
            trusted = self._held(token, TRUSTED_S)
            if trusted is None:
                raise
            return trusted
        if info is None or not _is_valid(info, self._clock.now()):
            return None
        principal = Principal(
            token_id=info.id,
            name=info.name,
            scopes=frozenset(info.scopes),
            mailboxes=frozenset(info.mailboxes),
        )
        if len(self._cache) >= _CACHED_TOKENS:
            self._cache.clear()
        self._cache[_digest(token)] = (self._clock.monotonic_s(), principal, info.expires_at)
        return principal

    def _look_up(self, token: str) -> TokenInfo | None:
        prefix, _, rest = token.partition("_")
        token_id, _, secret = rest.partition("_")
        if prefix != PREFIX or not secret:
            return None
        query = sa.select(self._table).where(self._table.c.id == token_id)
        with _translated(), self._engine.connect() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None or not hmac.compare_digest(row["digest"], _digest(token)):
            return None
        return _info(row)


def ensure_local_operator_token(data_dir: Path, tokens: TokenStore) -> Path:
    """Have an operator's token in the data directory, mode 0600; gives its place.

    Keeps one that still works; replaces one that does not (its database was restored, say).
    """
    path = data_dir / OPERATOR_TOKEN_FILE
    if path.exists() and tokens.authenticate(path.read_text().strip()) is not None:
        return path
    token = tokens.create(LOCAL_OPERATOR, [Scope.OPERATOR])
    # A crash before the rename leaves a token that nobody holds and a file that nobody reads.
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return path


def _checked(
    name: str, scopes: Iterable[Scope], mailboxes: Iterable[MailboxAddress]
) -> tuple[set[Scope], list[str]]:
    granted, addresses = set(scopes), sorted(str(mailbox) for mailbox in mailboxes)
    if not name.strip():
        raise CallerError("a token needs a name; say who or what it is for")
    if not granted:
        raise CallerError("a token needs a scope; give one of switch, reader, operator, owner")
    if (Scope.OWNER in granted) != bool(addresses):
        raise CallerError("a token of scope owner names its mailboxes, and only such a token does")
    if any(" " in address for address in addresses):
        raise CallerError("a mailbox that a token names must not contain a space")
    return granted, addresses


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        reason = getattr(error, "orig", None) or error
        raise TransientError(f"the access tokens cannot be looked up now: {reason}") from error


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _is_valid(info: TokenInfo, now: datetime) -> bool:
    is_expired = info.expires_at is not None and info.expires_at <= now
    return info.revoked_at is None and not is_expired


def _stored_time(at: datetime) -> str:
    return at.isoformat()


def _read_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


def _info(row: Any) -> TokenInfo:
    created_at = _read_time(row["created_at"])
    assert created_at is not None
    return TokenInfo(
        id=row["id"],
        name=row["name"],
        scopes=[Scope(word) for word in row["scopes"].split()],
        mailboxes=row["mailboxes"].split(),
        created_at=created_at,
        expires_at=_read_time(row["expires_at"]),
        revoked_at=_read_time(row["revoked_at"]),
    )
