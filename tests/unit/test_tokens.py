"""Access tokens: made once, kept as a digest, ended at will."""

import stat
from datetime import timedelta

import pytest
import sqlalchemy as sa

from ledger.errors import CallerError, ConflictError, NotFoundError
from ledger.ids import MailboxAddress
from ledger.storage.open_recorder import upgrade
from ledger.storage.schema import ACCESS_TOKEN
from tests.support.clocks import SetClock
from vmledger.access import Scope
from vmledger.tokens import CACHE_S, TokenStore, ensure_local_operator_token


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def engine(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    upgrade(url)
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def tokens(engine, clock):
    return TokenStore(engine, clock)


def test_a_token_opens_what_it_was_made_for(tokens):
    token = tokens.create("pbx", [Scope.SWITCH, Scope.READER])
    principal = tokens.authenticate(token)
    assert principal.name == "pbx"
    assert principal.scopes == {Scope.SWITCH, Scope.READER}


def test_an_owners_token_names_its_mailboxes(tokens):
    token = tokens.create("alice", [Scope.OWNER], mailboxes=[MailboxAddress("2001")])
    assert tokens.authenticate(token).mailboxes == {"2001@default"}


@pytest.mark.parametrize("spoil", ["{}x", "", "vml_", "vml__", "Bearer {}", "xyz_{}"])
def test_anything_but_the_whole_token_opens_nothing(tokens, spoil):
    token = tokens.create("pbx", [Scope.SWITCH])
    assert tokens.authenticate(spoil.format(token)) is None


def test_a_known_id_with_another_secret_opens_nothing(tokens):
    token = tokens.create("pbx", [Scope.SWITCH])
    other = tokens.create("pbx", [Scope.SWITCH])
    mixed = "_".join([*token.split("_")[:2], other.split("_")[2]])
    assert tokens.authenticate(mixed) is None


def test_the_database_does_not_hold_the_token(tokens, engine):
    token = tokens.create("pbx", [Scope.SWITCH])
    with engine.connect() as connection:
        row = connection.execute(sa.select(ACCESS_TOKEN)).one()
    secret = token.split("_")[2]
    assert all(secret not in str(value) for value in row)


def test_an_expired_token_opens_nothing(tokens, clock):
    token = tokens.create("guest", [Scope.READER], valid_for=timedelta(hours=1))
    assert tokens.authenticate(token) is not None
    clock.advance(3600)
    assert tokens.authenticate(token) is None


def test_a_revoked_token_opens_nothing_at_once(tokens):
    token = tokens.create("pbx", [Scope.SWITCH])
    assert tokens.authenticate(token) is not None
    tokens.revoke(tokens.list_tokens()[0].id)
    assert tokens.recall(token) is None
    assert tokens.authenticate(token) is None


def test_a_token_revoked_by_another_process_opens_nothing_after_moments(engine, clock):
    here, there = TokenStore(engine, clock), TokenStore(engine, clock)
    token = here.create("pbx", [Scope.SWITCH])
    assert here.authenticate(token) is not None
    there.revoke(there.list_tokens()[0].id)
    clock.advance(CACHE_S + 0.1)
    assert here.authenticate(token) is None


def test_revoking_twice_or_an_unknown_token_says_so(tokens):
    tokens.create("pbx", [Scope.SWITCH])
    token_id = tokens.list_tokens()[0].id
    tokens.revoke(token_id)
    with pytest.raises(ConflictError):
        tokens.revoke(token_id)
    with pytest.raises(NotFoundError):
        tokens.revoke("unknown")


def test_the_list_tells_everything_but_the_token(tokens, clock):
    tokens.create("pbx", [Scope.SWITCH], valid_for=timedelta(days=1))
    (info,) = tokens.list_tokens()
    assert (info.name, info.scopes, info.created_at) == ("pbx", [Scope.SWITCH], clock.now())
    assert info.expires_at == clock.now() + timedelta(days=1)
    assert info.revoked_at is None


@pytest.mark.parametrize(
    ("name", "scopes", "mailboxes"),
    [
        ("alice", [Scope.OWNER], []),
        ("pbx", [Scope.SWITCH], [MailboxAddress("2001")]),
        ("pbx", [], []),
        (" ", [Scope.SWITCH], []),
        ("alice", [Scope.OWNER], [MailboxAddress("20 01")]),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(tokens, name, scopes, mailboxes):
    with pytest.raises(CallerError):
        tokens.create(name, scopes, mailboxes=mailboxes)
    assert tokens.list_tokens() == []


def test_the_local_operators_token_is_readable_by_the_servers_user_only(tokens, tmp_path):
    path = ensure_local_operator_token(tmp_path, tokens)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert tokens.authenticate(path.read_text().strip()).scopes == {Scope.OPERATOR}


def test_a_local_operators_token_that_works_is_kept(tokens, tmp_path):
    first = ensure_local_operator_token(tmp_path, tokens).read_text()
    assert ensure_local_operator_token(tmp_path, tokens).read_text() == first
    assert len(tokens.list_tokens()) == 1


def test_a_local_operators_token_that_is_revoked_is_replaced(tokens, tmp_path):
    first = ensure_local_operator_token(tmp_path, tokens).read_text()
    tokens.revoke(tokens.list_tokens()[0].id)
    second = ensure_local_operator_token(tmp_path, tokens).read_text()
    assert second != first
    assert tokens.authenticate(second.strip()) is not None
