"""What a work is given: one connection's transaction, for as long as the work lasts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from sidecar.state.database import Connection
from sidecar.state.ports import ConflictError, Head, LostError, Row, StateError, Value

HEAD: Final = "SELECT identity, sequence, compacted FROM head"
APPEND: Final = "INSERT INTO changes (sequence, domain, kind, key, body, at) VALUES (?, ?, ?, ?, ?, ?)"


class Work:
    """A `ports.Transaction`; a `ports.Reading` where nothing but that is made of it.

    sequence: of the last change.  failed: what went wrong first; PostgreSQL refuses all that comes after it, and here
    so does SQLite.
    """

    def __init__(self, connection: Connection, sequence: int, now: float) -> None:
        """now: Unix seconds, the time of its changes."""
        self.sequence = sequence
        self.failed: BaseException | None = None
        self._connection = connection
        self._now = now
        self._over = False

    def head(self) -> Head:
        with self._guard():
            return head(self._connection)

    def rows(self, sql: str, *values: Value) -> list[Row]:
        with self._guard():
            return self._connection.rows(sql, values)

    def row(self, sql: str, *values: Value) -> Row | None:
        found = self.rows(sql, *values)
        return found[0] if found else None

    def stream(self, sql: str, *values: Value) -> Iterator[Row]:
        with self._guard():
            for row in self._connection.stream(sql, values):
                yield row
                self._check()

    def run(self, sql: str, *values: Value) -> int:
        with self._guard():
            return self._connection.run(sql, values)

    def run_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        with self._guard():
            self._connection.run_many(sql, rows)

    def change(self, domain: str, kind: str, key: str, body: bytes) -> int:
        number = self.sequence + 1
        self.run(APPEND, number, domain, kind, key, body, self._now)
        self.sequence = number
        return number

    def end(self) -> None:
        """Nothing more. Raises what has failed, should the work have gone on regardless."""
        self._over = True
        if self.failed is not None:
            raise self.failed

    def _check(self) -> None:
        if self._over:
            raise RuntimeError("this transaction has ended")
        if self.failed is not None:
            raise StateError("this transaction has failed") from self.failed

    @contextmanager
    def _guard(self) -> Iterator[None]:
        self._check()
        try:
            yield
        except (StateError, ConflictError) as error:
            self.failed = self.failed or error
            raise


def head(connection: Connection) -> Head:
    """Raises LostError where there is none: this is no database of ours any more."""
    found = connection.rows(HEAD)
    if len(found) != 1:
        raise LostError(f"table head has {len(found)} rows, expected 1")
    return Head(*found[0])
