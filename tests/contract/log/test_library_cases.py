"""The library's own cases for recorders, over each adapter that stores anything for good."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import TestCase
from uuid import UUID, uuid4

import pytest
from eventsourcing.tests import persistence as cases

from ledger.storage.memory import MemoryLogRecorder
from ledger.storage.open_recorder import open_recorder


class WithoutIds:
    """The cases for a recorder of aggregates alone expect no notification ids; ours are a log's."""

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder

    def insert_events(self, stored_events: Any, **kwargs: Any) -> None:
        self._recorder.insert_events(stored_events, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorder, name)


class Sqlite(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = TemporaryDirectory()
        self.opened: list[Any] = []

    def tearDown(self) -> None:
        for recorder in self.opened:
            recorder.close()
        self.folder.cleanup()
        super().tearDown()

    def create_recorder(self) -> Any:
        self.opened.append(open_recorder(f"sqlite:///{Path(self.folder.name) / 'log.sqlite'}"))
        return self.opened[-1]


class Postgres(TestCase):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def setUp(self) -> None:
        super().setUp()
        self.opened: list[Any] = []

    def tearDown(self) -> None:
        for recorder in self.opened:
            recorder.close()
        super().tearDown()

    def create_recorder(self) -> Any:
        self.opened.append(open_recorder(self.url))
        return self.opened[-1]


class Memory(TestCase):
    def create_recorder(self) -> Any:
        return MemoryLogRecorder(uuid4())


class _Uuids:
    INITIAL_VERSION = 1

    def new_originator_id(self) -> UUID:
        return uuid4()


class _Aggregate(_Uuids, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> Any:
        return WithoutIds(super().create_recorder())  # type: ignore[safe-super]


def _build() -> dict[str, type]:
    """Join each store with each case: the library's base classes must not be collected."""
    built: dict[str, type] = {}
    for store in (Sqlite, Postgres, Memory):
        for case in (
            cases.ApplicationRecorderTestCase,
            cases.TrackingRecorderTestCase,
            cases.ProcessRecorderTestCase,
            cases.NonInterleavingNotificationIDsBaseCase,
        ):
            name = f"Test{store.__name__}{case.__name__.removesuffix('TestCase')}"
            built[name] = type(name, (store, _Uuids, case), {"__module__": __name__})
        name = f"Test{store.__name__}AggregateRecorder"

        def create(self: Any, store: Any = store) -> Any:
            return WithoutIds(store.create_recorder(self))

        built[name] = type(
            name,
            (store, _Uuids, cases.AggregateRecorderTestCase),
            {"__module__": __name__, "create_recorder": create},
        )
    return built


globals().update(_build())
del _Aggregate, Sqlite, Postgres, Memory
