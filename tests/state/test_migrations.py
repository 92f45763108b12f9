"""What makes a database of this version, and which databases are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.state.migrations import Migration, migrate, read, shipped, statements
from sidecar.state.ports import SchemaError, StateError
from sidecar.state.store import DatabaseStore
from tests.state.engines import KNOWN, THINGS, Engine, connect, opened

FAILING = Migration(
    THINGS.number + 1, "failing", ("CREATE TABLE half (number BIGINT)", "CREATE TABLE half (number BIGINT)"), "x"
)


def start(engine: Engine, *known: Migration) -> None:
    DatabaseStore(connect(engine), known=known).close()


def test_each_runs_once(engine: Engine) -> None:
    database = connect(engine)
    try:
        assert migrate(database, KNOWN[:-1], 1.0) == len(KNOWN) - 1
        assert migrate(database, KNOWN, 2.0) == 1
        assert migrate(database, KNOWN, 3.0) == 0
    finally:
        database.close()
    with opened(engine) as store:
        rows = store.read(lambda reading: reading.rows("SELECT number, at FROM migrations ORDER BY number"))
    assert rows == [*((migration.number, 1.0) for migration in KNOWN[:-1]), (THINGS.number, 2.0)]


def test_a_database_of_a_later_version_is_refused(engine: Engine) -> None:
    start(engine, *KNOWN)
    with pytest.raises(SchemaError, match=rf"has had migration {THINGS.number} \(things\).* of a later version"):
        start(engine, *shipped())
    start(engine, *KNOWN)


def test_a_migration_that_was_changed_since_is_refused(engine: Engine) -> None:
    start(engine, *KNOWN)
    with pytest.raises(SchemaError, match=r"has had migration 1 \(state\) as SHA-256 [0-9a-f]{64}, .* it was changed"):
        start(engine, replace(KNOWN[0], checksum="0" * 64), *KNOWN[1:])


def test_a_database_that_lacks_one_in_the_middle_is_refused(engine: Engine) -> None:
    start(engine, *KNOWN)
    with opened(engine) as store:
        store.write(lambda transaction: transaction.run("DELETE FROM migrations WHERE number = 1"))
    with pytest.raises(SchemaError, match="has not had migration 1, but 2 after it"):
        start(engine, *KNOWN)


def test_one_that_fails_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(StateError, match="half"):
        start(engine, *KNOWN, FAILING)
    start(engine, *KNOWN, replace(FAILING, statements=FAILING.statements[:1]))


def test_a_database_that_is_changed_under_a_running_sidecar_is_refused_by_every_new_connection(engine: Engine) -> None:
    with opened(engine) as store:
        store.write(lambda transaction: transaction.run("UPDATE migrations SET checksum = 'other' WHERE number = 1"))
        with pytest.raises(StateError, match="it was changed"):
            store._connect()


def test_files_are_numbered_without_a_gap(tmp_path: Path) -> None:
    (tmp_path / "0001_one.sql").write_text("-- Why.\nCREATE TABLE one (\n  a BIGINT -- of one\n);\n\nDROP TABLE one;\n")
    (tmp_path / "0003_three.sql").write_text("")
    with pytest.raises(SchemaError, match=r"0003_three.sql: expected 0002_….sql"):
        read(tmp_path)
    (tmp_path / "0003_three.sql").rename(tmp_path / "0002_two.sql")
    one, two = read(tmp_path)
    assert one.statements == ("CREATE TABLE one (\n  a BIGINT -- of one\n)", "DROP TABLE one")
    assert (two.number, two.title, two.statements) == (2, "two", ())
    (tmp_path / "3.sql").write_text("")
    with pytest.raises(SchemaError, match=r"migration 3\.sql"):
        read(tmp_path)


def test_statements_end_at_the_end_of_a_line() -> None:
    assert statements("A ';' B;\nC\n  ; \n") == ("A ';' B", "C")


def test_the_shipped_ones_are_there() -> None:
    assert [migration.number for migration in shipped()] == list(range(1, len(shipped()) + 1))
    assert all(migration.statements for migration in shipped())
