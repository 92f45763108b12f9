"""SQLite: one file, of one process at a time. Source: sqlite.org/wal.html, sqlite.org/lang_transaction.html."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Final

from sidecar.state.files import claim, make_directory, open_private, sync_directory
from sidecar.state.ports import ConflictError, LostError, Row, StatementError, Value

FILE: Final = "state.db"
LOCK: Final = "state.lock"
STEPS: Final = 10_000  # of SQLite's machine, between looks at the time: under a millisecond
BUSY_S: Final = 1.0  # for checkpoints, the only thing that keeps a connection of the same process waiting
TYPES: Final = {"BIGINT": "INTEGER", "BYTEA": "BLOB", "DOUBLE PRECISION": "REAL", 'COLLATE "C"': "COLLATE BINARY"}
TYPE: Final = re.compile("|".join(map(re.escape, TYPES)))
# The log is on disk before a commit returns.
ALWAYS: Final = ("PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON", "PRAGMA trusted_schema = OFF")


class SqliteDatabase:
    """A `database.Database`. Raises StateError where another process has it, or others may read it."""

    remote = False

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self.title = f"state in {self.path}"
        make_directory(directory)
        self._lock = claim(directory / LOCK)
        try:
            # Never opened and closed again while SQLite has it: that would drop SQLite's locks (fcntl(2)).
            os.close(open_private(self.path, os.O_RDWR | os.O_CREAT))
            sync_directory(directory)
            with closing(self.connect()) as connection:
                connection.prepare()
        except BaseException:
            os.close(self._lock)
            raise

    def connect(self) -> SqliteConnection:
        return SqliteConnection(self.path, self.title)

    def spelt(self, statement: str) -> str:
        strict = " STRICT" if statement.startswith("CREATE TABLE") else ""
        return TYPE.sub(lambda found: TYPES[found[0]], statement) + strict

    def close(self) -> None:
        os.close(self._lock)


class SqliteConnection:
    """A `database.Connection`."""

    def __init__(self, path: Path, title: str) -> None:
        self._title = title
        self._until = float("inf")
        with self._errors():
            self._connection = sqlite3.connect(path, BUSY_S, isolation_level=None)
            self._connection.set_progress_handler(self._late, STEPS)
            for pragma in ALWAYS:
                self._connection.execute(pragma)

    def prepare(self) -> None:
        """Once for a file, and before anything else. Raises LostError for one that is damaged."""
        with self._errors():
            (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise LostError(f'{self._title}: journal mode is "{mode}", expected "wal"; a local file system has it')
            (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise LostError(f"{self._title} is damaged: {found}")

    def begin(self, *, write: bool, until: float) -> None:
        self._until = until
        self._run("BEGIN IMMEDIATE" if write else "BEGIN")

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        with self._errors():
            return self._connection.execute(sql, values).fetchall()

    def stream(self, sql: str, values: Sequence[Value] = ()) -> Iterator[Row]:
        with self._errors(), closing(self._connection.cursor()) as cursor:
            yield from cursor.execute(sql, values)

    def run(self, sql: str, values: Sequence[Value] = ()) -> int:
        return self._run(sql, values)

    def run_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        with self._errors():
            self._connection.executemany(sql, rows)

    def commit(self) -> None:
        self._run("COMMIT")

    def rollback(self) -> None:
        self._run("ROLLBACK")

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()

    def _run(self, sql: str, values: Sequence[Value] = ()) -> int:
        with self._errors():
            return self._connection.execute(sql, values).rowcount

    def _late(self) -> bool:
        return monotonic() > self._until

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise ConflictError(str(error)) from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            if code == sqlite3.SQLITE_INTERRUPT:
                raise LostError(f"{self._title}: it took too long") from error
            if code == sqlite3.SQLITE_ERROR or isinstance(error, (sqlite3.ProgrammingError, sqlite3.DataError)):
                raise StatementError(f"{self._title}: {error}") from error
            raise LostError(f"{self._title}: {error}") from error
