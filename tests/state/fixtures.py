"""Engines as pytest's fixtures; whoever stores imports them into a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.state.store import DatabaseStore
from tests.parts import require
from tests.state import postgres
from tests.state.engines import Engine, Postgres, Sqlite, opened


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    require(postgres.there(), postgres.NEEDED)
    server = postgres.Server()
    yield server
    server.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def on_postgres(server: postgres.Server, directory: Path) -> Iterator[Postgres]:
    engine = Postgres(directory, server)
    yield engine
    server.drop(engine.url)


@pytest.fixture
def on_sqlite(directory: Path) -> Sqlite:
    return Sqlite(directory)


@pytest.fixture(params=["on_sqlite", "on_postgres"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(engine: Engine) -> Iterator[DatabaseStore]:
    with opened(engine) as store:
        yield store
