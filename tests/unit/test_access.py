"""Which token opens which route."""

import pytest

from ledger.ids import MailboxAddress
from vmledger.access import (
    OPEN,
    OPERATE,
    READ,
    READ_MAILBOX,
    TAKE_CALLS,
    USE_MAILBOX,
    Principal,
    Scope,
)

MINE = MailboxAddress("2001")
THEIRS = MailboxAddress("2002")


def principal(*scopes, mailboxes=()):
    return Principal(
        token_id="t", name="t", scopes=frozenset(scopes), mailboxes=frozenset(mailboxes)
    )


SWITCH = principal(Scope.SWITCH)
READER = principal(Scope.READER)
OPERATOR = principal(Scope.OPERATOR)
OWNER = principal(Scope.OWNER, mailboxes=["2001@default"])


@pytest.mark.parametrize("who", [SWITCH, READER, OPERATOR, OWNER])
def test_an_open_route_serves_everybody(who):
    assert OPEN.allows(who, None)


@pytest.mark.parametrize("rule", [TAKE_CALLS, READ, READ_MAILBOX, USE_MAILBOX, OPERATE])
def test_an_operator_may_do_everything(rule):
    assert rule.allows(OPERATOR, MINE)


@pytest.mark.parametrize("rule", [READ, READ_MAILBOX, USE_MAILBOX, OPERATE])
def test_a_switch_only_takes_calls(rule):
    assert TAKE_CALLS.allows(SWITCH, None)
    assert not rule.allows(SWITCH, MINE)


@pytest.mark.parametrize("rule", [TAKE_CALLS, USE_MAILBOX, OPERATE])
def test_a_reader_neither_listens_nor_changes_anything(rule):
    assert READ.allows(READER, None)
    assert READ_MAILBOX.allows(READER, THEIRS)
    assert not rule.allows(READER, MINE)


@pytest.mark.parametrize("rule", [READ_MAILBOX, USE_MAILBOX])
def test_an_owner_uses_their_own_mailbox_and_no_other(rule):
    assert rule.allows(OWNER, MINE)
    assert not rule.allows(OWNER, THEIRS)
    assert not rule.allows(OWNER, MailboxAddress("2001", "sales"))
    assert not rule.allows(OWNER, None)


@pytest.mark.parametrize("rule", [TAKE_CALLS, READ, OPERATE])
def test_an_owner_may_nothing_outside_of_mailboxes(rule):
    assert not rule.allows(OWNER, MINE)
