"""PostgreSQL 15 or later, by psycopg 3. Source: postgresql.org/docs/15, psycopg.org/psycopg3/docs."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
from psycopg import conninfo

from sidecar.state.ports import ConflictError, LostError, Row, StateError, StatementError, Value

T = TypeVar("T")
SCHEMA: Final = "langtrain"
OLDEST: Final = 150_000  # as libpq numbers versions
CONNECT_S: Final = 2  # libpq's least
WRITERS: Final = 0x6C74_5374  # advisory lock: whoever writes has it, so commits are in the order of their changes
FETCHED: Final = 2_000  # rows at a time
VERIFIED: Final = ("verify-full", "verify-ca")
WEAK: Final = ("off", "local")  # a commit returns before it is on this server's disk, or on that of its standby


class PostgresDatabase:
    """A `database.Database`. Its tables are in a schema of their own, which is made where it is missing at first.

    Raises StateError for an address that holds a password, or that goes over a network without TLS that is verified.
    """

    remote = True

    def __init__(self, url: str) -> None:
        try:
            given = conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            raise StateError("address of PostgreSQL: expected postgresql://user@host:port/database") from None
        if not given.keys().isdisjoint(("password", "sslpassword")):
            raise StateError("address of PostgreSQL holds a password, expected passfile=… (a file as ~/.pgpass)")
        hosts = str(given.get("hostaddr") or given.get("host") or "")
        away = [host for host in hosts.split(",") if not _local(host)]
        if away and given.get("sslmode") not in VERIFIED:
            raise StateError(f"address of PostgreSQL: {away[0]} is another host, expected sslmode=verify-full")
        self.title = f"state in PostgreSQL {given.get('dbname', '')} at {hosts or 'the local socket'}"
        self._given = given
        self._new = True  # the schema may be missing

    def connect(self) -> PostgresConnection:
        connection = PostgresConnection(self._given, self.title, self._new)
        self._new = False
        return connection

    def spelt(self, statement: str) -> str:
        return statement

    def close(self) -> None:
        """It has nothing but its connections."""


class Patient(psycopg.Connection[Row]):
    """until: monotonic seconds, after which a server that does not answer is not waited for."""

    until = float("inf")

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        left = min(self.until - monotonic(), float("inf") if timeout is None else timeout)
        return super().wait(gen, interval, None if left == float("inf") else max(0.0, left))


class PostgresConnection:
    """A `database.Connection`."""

    def __init__(self, given: dict[str, Any], title: str, new: bool) -> None:
        self._title = title
        settings = {"connect_timeout": CONNECT_S, "application_name": "langtrain-sidecar", **given}
        with self._errors():
            self._connection = Patient.connect(**settings, autocommit=True)
        try:
            self._connection.until = monotonic() + CONNECT_S
            self._prepare(new)
        except BaseException:
            self.close()
            raise

    def _prepare(self, new: bool) -> None:
        if self._connection.info.server_version < OLDEST:
            raise StateError(f"{self._title}: version {self._connection.info.server_version // 10_000}, expected 15")
        if (encoding := self._connection.info.parameter_status("server_encoding")) != "UTF8":
            raise StateError(f"{self._title}: server_encoding is {encoding}, expected UTF8")
        if new and not self.rows("SELECT 1 FROM pg_namespace WHERE nspname = ?", (SCHEMA,)):
            with suppress(ConflictError):  # another sidecar has just made it
                self.run(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        # pg_temp last: else anybody's temporary table would come before ours.
        self.run(f"SET search_path TO {SCHEMA}, pg_temp")
        ((commit, fsync),) = self.rows("SELECT current_setting('synchronous_commit'), current_setting('fsync')")
        if fsync != "on":
            raise StateError(f"{self._title}: fsync is off, expected on")
        if commit in WEAK:
            self.run("SET synchronous_commit TO on")

    def begin(self, *, write: bool, until: float) -> None:
        self._connection.until = until
        left_ms = max(1, int((until - monotonic()) * 1000))
        isolation = "READ COMMITTED" if write else "REPEATABLE READ READ ONLY"
        # So that whoever is stopped in the middle keeps the others no longer than itself.
        self.run(f"BEGIN ISOLATION LEVEL {isolation}; SET LOCAL statement_timeout = {left_ms}; "
                 f"SET LOCAL idle_in_transaction_session_timeout = {left_ms}")  # fmt: skip
        if write:
            self.rows("SELECT pg_advisory_xact_lock(?)", (WRITERS,))

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        return self._execute(sql, values).fetchall()

    def stream(self, sql: str, values: Sequence[Value] = ()) -> Iterator[Row]:
        with self._errors(), self._connection.cursor("stream") as cursor:
            cursor.itersize = FETCHED
            yield from cursor.execute(_spelt(sql), values)

    def run(self, sql: str, values: Sequence[Value] = ()) -> int:
        return self._execute(sql, values).rowcount

    def run_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        with self._errors(), self._connection.cursor() as cursor:
            cursor.executemany(_spelt(sql), rows)

    def commit(self) -> None:
        # A transaction that has failed is rolled back by COMMIT, without an error.
        if (did := self._execute("COMMIT", ()).statusmessage) != "COMMIT":
            raise LostError(f"{self._title}: COMMIT did {did}")

    def rollback(self) -> None:
        self.run("ROLLBACK")

    def close(self) -> None:
        with suppress(psycopg.Error):
            self._connection.close()

    def _execute(self, sql: str, values: Sequence[Value]) -> psycopg.Cursor[Row]:
        with self._errors():
            return self._connection.execute(_spelt(sql), values) if values else self._connection.execute(_plain(sql))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.IntegrityError as error:
            raise ConflictError(_said(error)) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise LostError(f"{self._title}: {_said(error)}") from error
        except psycopg.Error as error:
            raise StatementError(f"{self._title}: {_said(error)}") from error


@lru_cache(maxsize=512)
def _spelt(sql: str) -> Any:
    """With values. Any: psycopg asks for literal text, which all of it is, but not here."""
    return sql.replace("%", "%%").replace("?", "%s")


def _plain(sql: str) -> Any:
    return sql


def _said(error: psycopg.Error) -> str:
    """The first line: what follows quotes the statement, and may quote values."""
    return str(error).partition("\n")[0] or type(error).__name__


def _local(host: str) -> bool:
    """A Unix socket's directory or "@" name, or this host's own address."""
    if not host or host[0] in "/@" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
