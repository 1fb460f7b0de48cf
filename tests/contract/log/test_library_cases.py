"""The library's own cases for recorders, over each adapter.

The base classes are reached through their module, never imported by name, and each is joined with
a store inside a function: pytest must not collect a case that has no store.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import TestCase
from uuid import UUID, uuid4

import pytest
from eventsourcing.tests import persistence as cases

from ledger.storage.event_log import LogRecorder
from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.open_recorder import open_recorder

NON_INTERLEAVING_RUNS = 4
"""A missing lock shows only in three runs of four."""


class _Uuids:
    INITIAL_VERSION = 1

    def new_originator_id(self) -> UUID:
        return uuid4()


class _Store(TestCase):
    """Opens recorders over one store, and closes them all."""

    def setUp(self) -> None:
        super().setUp()
        self.opened: list[LogRecorder] = []

    def tearDown(self) -> None:
        for recorder in self.opened:
            recorder.close()
        super().tearDown()

    def open(self) -> LogRecorder:
        raise NotImplementedError

    def create_recorder(self) -> Any:
        self.opened.append(self.open())
        return self.opened[-1]


class _Memory(_Store):
    def open(self) -> LogRecorder:
        return MemoryLogRecorder(uuid4())


class _Sqlite(_Store):
    def setUp(self) -> None:
        super().setUp()
        self.folder = TemporaryDirectory()

    def tearDown(self) -> None:
        super().tearDown()
        self.folder.cleanup()

    def open(self) -> LogRecorder:
        return open_recorder(f"sqlite:///{Path(self.folder.name) / 'log.sqlite'}")


class _Postgres(_Store):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def open(self) -> LogRecorder:
        return open_recorder(self.url)


class _WithoutIds:
    """The cases for a recorder of aggregates alone expect no notification ids; ours are a log's."""

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder

    def insert_events(self, stored_events: Any, **kwargs: Any) -> None:
        self._recorder.insert_events(stored_events, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorder, name)


class _NonInterleaving(_Uuids, cases.NonInterleavingNotificationIDsBaseCase):
    insert_num = 200

    def test(self) -> None:
        for _ in range(NON_INTERLEAVING_RUNS):
            super().test()


def _aggregate_cases(store: type[_Store]) -> type[TestCase]:
    class Cases(store, _Uuids, cases.AggregateRecorderTestCase):  # type: ignore[misc, valid-type]
        def create_recorder(self) -> Any:
            return _WithoutIds(store.create_recorder(self))

    return Cases


def _application_cases(store: type[_Store]) -> type[TestCase]:
    class Cases(store, _Uuids, cases.ApplicationRecorderTestCase):  # type: ignore[misc, valid-type]
        pass

    return Cases


def _tracking_cases(store: type[_Store]) -> type[TestCase]:
    class Cases(store, cases.TrackingRecorderTestCase):  # type: ignore[misc, valid-type]
        pass

    return Cases


def _process_cases(store: type[_Store]) -> type[TestCase]:
    class Cases(store, _Uuids, cases.ProcessRecorderTestCase):  # type: ignore[misc, valid-type]
        pass

    return Cases


def _non_interleaving_cases(store: type[_Store]) -> type[TestCase]:
    class Cases(store, _NonInterleaving):  # type: ignore[misc, valid-type]
        pass

    return Cases


TestMemoryAggregates = _aggregate_cases(_Memory)
TestMemoryApplication = _application_cases(_Memory)
TestMemoryTracking = _tracking_cases(_Memory)
TestMemoryProcess = _process_cases(_Memory)
TestMemoryNonInterleaving = _non_interleaving_cases(_Memory)

TestSqliteAggregates = _aggregate_cases(_Sqlite)
TestSqliteApplication = _application_cases(_Sqlite)
TestSqliteTracking = _tracking_cases(_Sqlite)
TestSqliteProcess = _process_cases(_Sqlite)
TestSqliteNonInterleaving = _non_interleaving_cases(_Sqlite)

TestPostgresAggregates = _aggregate_cases(_Postgres)
TestPostgresApplication = _application_cases(_Postgres)
TestPostgresTracking = _tracking_cases(_Postgres)
TestPostgresProcess = _process_cases(_Postgres)
TestPostgresNonInterleaving = _non_interleaving_cases(_Postgres)
