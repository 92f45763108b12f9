"""Which PostgreSQL servers are used, and how."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from sidecar.state.database_postgres import PostgresDatabase
from sidecar.state.opening import database
from sidecar.state.ports import LostError, SchemaError, StateError
from sidecar.state.store import DatabaseStore
from tests.state.engines import Postgres, opened


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://sidecar:s3cret@localhost/state", "holds a password, expected passfile="),
        ("postgresql://sidecar@localhost/state?password=s3cret", "holds a password, expected passfile="),
        ("postgresql://sidecar@localhost/state?sslpassword=s3cret", "holds a password, expected passfile="),
        ("postgresql://sidecar@db.example.org/state", "db.example.org is another host, expected sslmode=verify-full"),
        ("postgresql://db.example.org/state?sslmode=require", "expected sslmode=verify-full"),
        ("postgresql://localhost,10.0.0.7/state", "10.0.0.7 is another host"),
        ("postgresql:///state?host=localhost&hostaddr=192.0.2.1", "192.0.2.1 is another host"),
        ("postgresql://[s3cret", "expected postgresql://user@host:port/database"),
    ],
)
def test_addresses_that_are_refused(url: str, problem: str) -> None:
    with pytest.raises(StateError) as caught:
        PostgresDatabase(url)
    assert problem in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite3", "", "mysql://localhost/state", "sqlite:///state.db"])
def test_other_databases_are_refused(directory: Path, url: str) -> None:
    with pytest.raises(StateError, match=r'state.url: expected "sqlite" or postgresql://'):
        database(directory, url)


def test_a_server_that_is_not_there_says_so(directory: Path) -> None:
    with pytest.raises(LostError, match=r"state in PostgreSQL state at /nowhere: .*No such file"):
        database(directory, "postgresql:///state?host=/nowhere").connect()


def test_a_store_is_opened_before_its_server_is_there(on_postgres: Postgres) -> None:
    with on_postgres.server.down():
        store = DatabaseStore(database(on_postgres.directory, on_postgres.url))
        with pytest.raises(StateError, match=r"state in PostgreSQL test_[0-9]+ at .*: not done in time"):
            store.read(lambda reading: reading.head(), 0.2)
        writing = ThreadPoolExecutor(1).submit(store.write, lambda one: one.change("things", "thing", "1", b""), 60)
    with closing(store):
        assert writing.result(60) == 1


def test_a_database_of_a_later_version_is_refused_when_it_is_found(on_postgres: Postgres) -> None:
    """Not as one that is away."""
    opened_once = DatabaseStore(database(on_postgres.directory, on_postgres.url))
    opened_once.write(lambda one: one.run("INSERT INTO migrations VALUES (9999, 'later', '', 0)"))
    opened_once.close()
    with pytest.raises(SchemaError, match="it is of a later version"):
        DatabaseStore(database(on_postgres.directory, on_postgres.url))


def test_tables_are_in_a_schema_of_their_own(on_postgres: Postgres) -> None:
    with opened(on_postgres) as store:
        rows = store.read(lambda reading: reading.rows("SELECT schemaname FROM pg_tables WHERE tablename = 'head'"))
    assert rows == [("langtrain",)]


@pytest.mark.parametrize(("role", "ours"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
def test_a_commit_is_durable_whatever_the_role_is_set_to(on_postgres: Postgres, role: str, ours: str) -> None:
    on_postgres.server.run(on_postgres.url, f"ALTER ROLE sidecar SET synchronous_commit = {role}")
    try:
        with opened(on_postgres) as store:
            assert store.write(lambda transaction: transaction.row("SHOW synchronous_commit")) == (ours,)
    finally:
        on_postgres.server.run(on_postgres.url, "ALTER ROLE sidecar RESET synchronous_commit")


def test_a_sidecar_that_is_stopped_in_the_middle_keeps_others_no_longer_than_its_deadline(
    on_postgres: Postgres,
) -> None:
    stopped = PostgresDatabase(on_postgres.url)
    with opened(on_postgres) as store:
        connection = stopped.connect()
        connection.begin(write=True, until=monotonic() + 0.5)
        assert store.write(lambda transaction: transaction.change("test", "thing", "key", b""), 60.0) == 1
        with pytest.raises(StateError):
            connection.rows("SELECT 1")
        connection.close()
