"""The port that domains store with, and what can go wrong with it. What stands behind it is `database`'s.

SQL is PostgreSQL's as far as SQLite understands it as well; `?` stands for a value. It is never put together from what
a caller said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from interceptors.contract import Code
from sidecar.errors import SidecarError

T = TypeVar("T")
Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = tuple[Any, ...]
DEADLINE_S: Final = 5.0


class StateError(SidecarError):
    """State cannot be read or written now."""

    code = Code.UNAVAILABLE
    public = "state is not available at the moment"
    wire_reason = "STATE_UNAVAILABLE"


class HeldError(StateError):
    """Another process has the database for itself."""


class LostError(StateError):
    """The connection is gone, or the database has given up the transaction. Nothing of it was written."""


class StateTimeoutError(StateError):
    """It was not done in time, and will not be."""


class OutcomeUnknownError(StateError):
    """The database did not say whether it was written. Asked again under the same idempotency key, it is done once."""

    public = "the outcome is not known; ask again with the same idempotency key"
    wire_reason = "STATE_OUTCOME_UNKNOWN"


class StatementError(StateError):
    """The database refuses the statement itself."""

    code = Code.INTERNAL
    public = SidecarError.public
    wire_reason = SidecarError.wire_reason


class SchemaError(StateError):
    """The database is not of this version, nor of one before it."""

    code = Code.FAILED_PRECONDITION
    public = "state is of another version"
    wire_reason = "STATE_SCHEMA"


class ConflictError(SidecarError):
    """What is there already, or not there, forbids it."""

    code = Code.ABORTED
    public = "in conflict with what is stored"
    wire_reason = "STATE_CONFLICT"


class Head(NamedTuple):
    """Where a database stands. identity: a name that it was given when it was made.

    sequence: of the last change, 0 before the first.  compacted: up to which changes are not kept any more.
    """

    identity: str
    sequence: int
    compacted: int


class Reading(Protocol):
    """One state of the database, whatever is written meanwhile. For the thread and the time of the work it is given."""

    def head(self) -> Head: ...

    def rows(self, sql: str, *values: Value) -> list[Row]: ...

    def row(self, sql: str, *values: Value) -> Row | None:
        """The first, None where there is none."""

    def stream(self, sql: str, *values: Value) -> Iterator[Row]:
        """As `rows`, however many there are: they are never all in memory."""


class Transaction(Reading, Protocol):
    """What is written, all of it or nothing. After an error nothing more can be done with it."""

    def run(self, sql: str, *values: Value) -> int:
        """Returns how many rows it concerned. Raises ConflictError."""

    def run_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Once for each row of values. Raises ConflictError."""

    def change(self, domain: str, kind: str, key: str, body: bytes) -> int:
        """Append to the log of changes; returns the change's number, one above that of the change before it."""


class Store(Protocol):
    """Safe for many threads. Raises StateError when the database does not answer within the deadline."""

    def write(self, work: Callable[[Transaction], T], deadline_s: float = DEADLINE_S) -> T:
        """Do the work as a transaction; it is durable when this returns.

        Works are done one after the other, each on top of all before it. What a work raises undoes it, and is raised.
        A work may be done again after the connection was lost, so it does nothing but what its transaction does.
        """

    def read(self, work: Callable[[Reading], T], deadline_s: float = DEADLINE_S) -> T:
        """Look at one state of the database; it has all writes that had returned. As with `write`, maybe twice."""
