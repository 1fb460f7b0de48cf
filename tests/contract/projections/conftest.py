"""A store for read models on each database that may hold one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from projections.store import ProjectionStore
from tests.support.postgres import Postgres
from tests.support.running import Bench


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'views.sqlite'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    address = server.new_database(with_schema=False)
    yield address
    server.drop_database(address)


@pytest.fixture
def store(url: str) -> Iterator[ProjectionStore]:
    opened = ProjectionStore(url, "alpha")
    yield opened
    opened.close()


@pytest.fixture
def bench(store: ProjectionStore) -> Bench:
    return Bench(store)
