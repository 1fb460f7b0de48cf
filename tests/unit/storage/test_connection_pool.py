"""Connections that reading threads borrow."""

import pytest

from ledger.errors import TransientError
from ledger.storage.connection_pool import ConnectionPool


class FakeConnection:
    is_closed = False

    def close(self):
        self.is_closed = True


def test_who_finds_all_connections_lent_is_told_to_come_back():
    pool = ConnectionPool(FakeConnection, most=2, wait_s=0.01)
    one_too_many = pytest.raises(TransientError, match="all 2 connections")
    with pool.borrow(), pool.borrow(), one_too_many, pool.borrow():
        pass
    with pool.borrow():
        assert pool.borrowed == 1


def test_idle_connections_are_given_up_for_somebody_else():
    pool = ConnectionPool(FakeConnection)
    with pool.borrow() as connection:
        pass
    pool.drop_idle()
    assert connection.is_closed


def test_a_connection_that_cannot_be_opened_takes_no_place():
    def fail():
        raise OSError("no")

    pool = ConnectionPool(fail, most=1, wait_s=0.01)
    for _ in range(2):
        with pytest.raises(OSError, match="no"), pool.borrow():
            pass
    assert pool.borrowed == 0
