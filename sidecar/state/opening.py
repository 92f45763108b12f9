"""What the config says of state → the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from sidecar.state.database import Database
from sidecar.state.database_sqlite import SqliteDatabase
from sidecar.state.ports import StateError
from sidecar.state.store import DatabaseStore

SQLITE: Final = "sqlite"
POSTGRES: Final = ("postgresql://", "postgres://")


def open_store(directory: Path, url: str, committed: Callable[[int], None] = lambda sequence: None) -> DatabaseStore:
    """url: "sqlite", whose file is in the directory, or postgresql://….  committed: as of DatabaseStore.

    Raises StateError.
    """
    return DatabaseStore(database(directory, url), committed=committed)


def database(directory: Path, url: str) -> Database:
    if url == SQLITE:
        return SqliteDatabase(directory)
    if not url.startswith(POSTGRES):
        raise StateError(f'state.url: expected "{SQLITE}" or {POSTGRES[0]}…')
    try:
        from sidecar.state.database_postgres import PostgresDatabase
    except ImportError as error:
        raise StateError("state.url: PostgreSQL needs psycopg: install langtrain-sidecar[postgres]") from error
    return PostgresDatabase(url)
