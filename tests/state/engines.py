"""The two databases behind one face, so that a test of the store is the same for both."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from sidecar.state.database import Database
from sidecar.state.database_sqlite import FILE
from sidecar.state.migrations import Migration, shipped
from sidecar.state.opening import database
from sidecar.state.store import DatabaseStore
from tests.state.postgres import Server

THINGS = Migration(
    len(shipped()) + 1,
    "things",
    (
        'CREATE TABLE things (name TEXT COLLATE "C" PRIMARY KEY, number BIGINT, body BYTEA, weight DOUBLE PRECISION)',
        "CREATE INDEX things_number ON things (number)",
    ),
    "of things",
)
KNOWN = (*shipped(), THINGS)


class Engine(Protocol):
    """One database, empty at first. directory, url: as the config has them."""

    directory: Path
    url: str

    def stalled(self) -> AbstractContextManager[None]:
        """For as long nothing can be written, and nothing says so."""


class Sqlite:
    url = "sqlite"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """As when a program that knows nothing of our lock has opened the file."""
        other = sqlite3.connect(self.directory / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.close()


class Postgres:
    def __init__(self, directory: Path, server: Server) -> None:
        self.directory = directory
        self.server = server
        self.url = server.new_database()

    def stalled(self) -> AbstractContextManager[None]:
        return self.server.stopped()


def connect(engine: Engine) -> Database:
    return database(engine.directory, engine.url)


@contextmanager
def opened(engine: Engine, committed: Callable[[int], None] = lambda sequence: None) -> Iterator[DatabaseStore]:
    """With a table of things beside those of ours."""
    store = DatabaseStore(connect(engine), known=KNOWN, committed=committed)
    try:
        yield store
    finally:
        store.close()
