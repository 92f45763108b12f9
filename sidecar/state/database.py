"""The port to a database: what the store asks of SQLite and of PostgreSQL, each of which is one adapter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from sidecar.state.ports import Row, Value


class Connection(Protocol):
    """Used by the thread that made it. Raises ConflictError, StatementError, and LostError, after which it is closed.

    Between `begin` and `commit` or `rollback` nothing takes longer than until the time given to `begin`.
    """

    def begin(self, *, write: bool, until: float) -> None:
        """until: monotonic seconds.  write: wait until nobody else writes, so that writers come one after the other.

        Without it, all that is read is of one state.
        """

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]: ...

    def stream(self, sql: str, values: Sequence[Value] = ()) -> Iterator[Row]: ...

    def run(self, sql: str, values: Sequence[Value] = ()) -> int: ...

    def run_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None: ...

    def commit(self) -> None:
        """Durable when it returns. After LostError it may have been done, or not."""

    def rollback(self) -> None: ...

    def close(self) -> None: ...


class Database(Protocol):
    """title: what and where it is, for the operator; it holds no secret.

    remote: a server's, which may be away and come back.
    """

    title: str
    remote: bool

    def connect(self) -> Connection: ...

    def spelt(self, statement: str) -> str:
        """A statement of a migration, as this database wants it."""

    def close(self) -> None: ...
