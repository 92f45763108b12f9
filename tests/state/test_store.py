"""The store keeps its promises on either database: all or nothing, one after the other, durable, and never a hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from sidecar.state.changes import changes_since
from sidecar.state.ports import (
    ConflictError,
    Reading,
    Row,
    StateError,
    StatementError,
    StateTimeoutError,
    Transaction,
    Value,
)
from sidecar.state.store import DatabaseStore
from tests.state.engines import Engine, Postgres, opened
from tests.waiting import eventually

INSERT = "INSERT INTO things (name, number, body, weight) VALUES (?, ?, ?, ?)"
LONG_S = 60.0


class RefusedError(Exception):
    pass


def put(name: str, number: int = 0) -> Callable[[Transaction], int]:
    def work(transaction: Transaction) -> int:
        transaction.run(INSERT, name, number, b"", 0.0)
        return transaction.change("test", "thing", name, b"%d" % number)

    return work


def names(reading: Reading) -> list[str]:
    return [name for (name,) in reading.rows("SELECT name FROM things ORDER BY name")]


@pytest.mark.parametrize(
    "values",
    [
        ("a", 1, b"\x00\xff", 0.1),
        ("50 % of ? 'ü' \" \\ \U0001f511", (1 << 63) - 1, bytes(range(256)), -1e308),
        ("", -(1 << 63), b"", 5e-324),
        ("none", None, None, None),
    ],
)
def test_values_come_back_as_they_were(store: DatabaseStore, values: tuple[Value, ...]) -> None:
    assert store.write(lambda transaction: transaction.run(INSERT, *values)) == 1
    found = store.read(lambda reading: reading.row("SELECT * FROM things WHERE name = ?", values[0]))
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]
    assert store.read(lambda reading: reading.rows("SELECT name FROM things WHERE name = 'no %s'")) == []


def test_what_a_work_raises_undoes_it_and_is_raised(store: DatabaseStore) -> None:
    def refuse(transaction: Transaction) -> None:
        put("a")(transaction)
        raise RefusedError

    with pytest.raises(RefusedError):
        store.write(refuse)
    assert store.read(names) == []
    assert store.read(lambda reading: reading.head().sequence) == 0
    assert store.write(put("b")) == 1


def test_in_a_group_only_that_one_is_undone(store: DatabaseStore) -> None:
    """The first holds the writer until the others wait, so they are one group."""
    waiting, went = threading.Event(), threading.Event()

    def hold(transaction: Transaction) -> None:
        waiting.set()
        assert went.wait(LONG_S)

    with ThreadPoolExecutor(8) as threads:
        holder = threads.submit(store.write, hold, LONG_S)
        assert waiting.wait(LONG_S)
        kept = [threads.submit(store.write, put(f"kept {number}", number)) for number in range(3)]
        twice = threads.submit(store.write, put_twice)
        more = [threads.submit(store.write, put(f"more {number}", number)) for number in range(3)]
        eventually(lambda: len(store._writes._waiting) == 7, "all others wait")
        went.set()
        holder.result()
        assert [each.result() for each in (*kept, *more)] == [1, 2, 3, 4, 5, 6]
        with pytest.raises(ConflictError):
            twice.result()
    assert len(store.read(names)) == 6
    assert [change.sequence for change in store.read(lambda reading: changes_since(reading, 0))] == [1, 2, 3, 4, 5, 6]


def put_twice(transaction: Transaction) -> None:
    put("twice")(transaction)
    put("twice")(transaction)


def test_an_error_that_a_work_passes_over_undoes_it_all_the_same(store: DatabaseStore) -> None:
    def stubborn(transaction: Transaction) -> str:
        put("a")(transaction)
        with pytest.raises(ConflictError):
            put("a")(transaction)
        with pytest.raises(StateError, match="has failed"):
            transaction.rows("SELECT 1")
        return "done"

    with pytest.raises(ConflictError):
        store.write(stubborn)
    assert store.read(names) == []


def test_bad_sql_says_so_and_harms_nobody_else(store: DatabaseStore) -> None:
    with pytest.raises(StatementError):
        store.write(lambda transaction: transaction.run("INSERT INTO nothing VALUES (1)"))
    with pytest.raises(StatementError):
        store.read(lambda reading: reading.rows("SELEC"))
    assert store.write(put("a")) == 1
    assert store.read(names) == ["a"]


def test_writers_come_one_after_the_other_and_followers_see_no_gap(store: DatabaseStore) -> None:
    store.write(lambda transaction: transaction.run(INSERT, "counter", 0, b"", 0.0))

    def add(transaction: Transaction) -> int:
        found = transaction.row("SELECT number FROM things")
        assert found is not None
        transaction.run("UPDATE things SET number = ?", found[0] + 1)
        transaction.change("test", "counter", "counter", b"%d" % (found[0] + 1))
        return int(found[0]) + 1

    with ThreadPoolExecutor(9) as threads:
        seen = threads.submit(follow, store, 200)
        counted = list(threads.map(lambda _: store.write(add, LONG_S), range(200)))
        followed = seen.result()
    assert sorted(counted) == list(range(1, 201))
    assert followed == [(number, b"%d" % number) for number in range(1, 201)]


def follow(store: DatabaseStore, until: int) -> list[tuple[int, bytes]]:
    seen: list[tuple[int, bytes]] = []

    def look() -> bool:
        new = store.read(lambda reading: changes_since(reading, len(seen)), LONG_S)
        seen.extend((change.sequence, change.body) for change in new)
        return len(seen) >= until

    eventually(look, f"{until} changes", LONG_S)
    return seen


def test_several_sidecars_of_one_postgres_write_one_log_in_order(on_postgres: Postgres) -> None:
    with opened(on_postgres) as one, opened(on_postgres) as two, ThreadPoolExecutor(7) as threads:
        seen = threads.submit(follow, two, 200)
        for number in range(100):
            threads.submit(one.write, put(f"one {number}"), LONG_S)
            threads.submit(two.write, put(f"two {number}"), LONG_S)
        assert [sequence for sequence, _ in seen.result()] == list(range(1, 201))
        assert len(one.read(names)) == 200


def test_a_reading_is_of_one_state(store: DatabaseStore) -> None:
    def twice(reading: Reading) -> tuple[list[str], list[str], int]:
        before = names(reading)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(store.write, put("b")).result()
        return before, names(reading), reading.head().sequence

    store.write(put("a"))
    assert store.read(twice) == (["a"], ["a"], 1)
    assert store.read(names) == ["a", "b"]


def test_what_is_read_cannot_be_written(on_postgres: Postgres) -> None:
    """SQLite's readers are not kept from it, but Reading has nothing that writes."""
    with opened(on_postgres) as store, pytest.raises(StateError, match="read-only"):
        store.read(lambda reading: reading.rows("DELETE FROM things RETURNING name"), 0.5)


def test_text_is_in_the_order_of_its_octets(store: DatabaseStore) -> None:
    for name in ("b", "B", "a", "é", "Z", "_", "0"):
        store.write(put(name))
    assert store.read(names) == ["0", "B", "Z", "_", "a", "b", "é"]


def test_many_rows_are_written_and_streamed(store: DatabaseStore) -> None:
    rows = [(f"{number:06}", number, b"body", 0.5) for number in range(10_000)]

    def streamed(reading: Reading) -> Iterator[Row]:
        yield from reading.stream("SELECT * FROM things WHERE number >= ? ORDER BY name", 0)

    store.write(lambda transaction: transaction.run_many(INSERT, rows), LONG_S)
    assert store.read(lambda reading: list(streamed(reading)), LONG_S) == rows
    assert store.read(lambda reading: next(streamed(reading))) == rows[0]  # and the rest is left
    assert store.write(put("a")) == 1
    with pytest.raises(ConflictError):
        store.write(lambda transaction: transaction.run_many(INSERT, [("z", 0, b"", 0.0), rows[7]]))
    assert store.read(lambda reading: reading.rows("SELECT 1 FROM things WHERE name = 'z'")) == []


def test_a_transaction_is_over_with_its_work(store: DatabaseStore) -> None:
    kept: list[Transaction] = []
    store.write(kept.append)
    with pytest.raises(RuntimeError, match="has ended"):
        kept[0].rows("SELECT 1")


def test_a_database_that_stalls_is_not_waited_for_and_goes_on_where_it_was(engine: Engine) -> None:
    with opened(engine) as store:
        store.write(put("before"))
        with engine.stalled():
            for number in range(3):
                with pytest.raises(StateTimeoutError, match="not done in time"):
                    store.write(put(f"given up {number}"), 0.3)
        store.write(put("after"), LONG_S)
        assert store.read(names, LONG_S) == ["after", "before"]


def test_reading_from_a_stalled_server_is_given_up(on_postgres: Postgres) -> None:
    with opened(on_postgres) as store:
        with on_postgres.stalled(), ThreadPoolExecutor(6) as threads:
            for error in threads.map(lambda _: raised(lambda: store.read(names, 0.5)), range(6)):
                assert isinstance(error, StateTimeoutError)
        assert store.read(names, LONG_S) == []


def raised(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def test_nothing_acknowledged_is_lost_with_a_server_that_crashes(on_postgres: Postgres) -> None:
    with opened(on_postgres) as store, ThreadPoolExecutor(4) as threads:
        over = threading.Event()

        def write(thread: int) -> list[str]:
            done: list[str] = []
            number = 0
            while not over.is_set():
                name = f"{thread} {(number := number + 1):05}"
                if raised(partial(store.write, put(name), LONG_S)) is None:
                    done.append(name)
            return done

        writers = [threads.submit(write, thread) for thread in range(4)]
        for _ in range(2):
            goes_on(store)
            with on_postgres.server.down():
                pass
            goes_on(store)
        over.set()
        acknowledged = {name for writer in writers for name in writer.result()}
        there = store.read(names)
        assert acknowledged <= set(there)
        assert store.read(lambda reading: len(reading.rows("SELECT 1 FROM changes"))) == len(there) == head(store)


def goes_on(store: DatabaseStore) -> None:
    before = head(store)
    eventually(lambda: head(store) > before + 20, "writes go on", LONG_S)


def head(store: DatabaseStore) -> int:
    return store.read(lambda reading: reading.head().sequence, LONG_S)


def test_a_server_that_is_away_says_so_at_the_deadline(on_postgres: Postgres) -> None:
    with opened(on_postgres) as store:
        with on_postgres.server.down():
            with pytest.raises(StateTimeoutError, match="PostgreSQL"):
                store.write(put("a"), 0.5)
            with pytest.raises(StateTimeoutError, match="PostgreSQL"):
                store.read(names, 0.5)
        assert store.write(put("b"), LONG_S) == 1


def test_what_takes_too_long_is_cut_short_and_the_thread_is_free_again(engine: Engine) -> None:
    endless = (
        "WITH RECURSIVE counting(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counting) SELECT count(*) FROM counting"
    )
    with opened(engine) as store:
        for _ in range(5):  # more than there are readers
            with pytest.raises(StateTimeoutError):
                store.read(lambda reading: reading.rows(endless), 0.3)
        with pytest.raises(StateTimeoutError):
            store.write(lambda transaction: transaction.rows(endless), 0.3)
        store.write(put("a"), LONG_S)
        assert store.read(names, LONG_S) == ["a"]


def test_whoever_listens_is_told_of_what_is_written(engine: Engine) -> None:
    told: list[int] = []
    with opened(engine, told.append) as store:
        store.write(put("a"))
        store.write(lambda transaction: transaction.run("UPDATE things SET number = 1"))
        store.write(lambda transaction: (put("b")(transaction), put("c")(transaction)))
        eventually(lambda: told == [1, 3], "two commits with changes")


def test_a_closed_store_refuses_and_what_it_had_is_there_again(engine: Engine) -> None:
    with opened(engine) as store:
        store.write(put("a"))
    with pytest.raises(StateError, match="is closed"):
        store.write(put("b"))
    with opened(engine) as store:
        assert store.read(names) == ["a"]
        assert store.write(put("b")) == 2


def test_another_database_in_its_place_is_not_taken_for_it(on_postgres: Postgres) -> None:
    with opened(on_postgres) as store:
        store.write(put("a"))
        on_postgres.server.disconnect(on_postgres.url)
        on_postgres.server.run(on_postgres.url, "UPDATE langtrain.head SET identity = 'other'")
        with pytest.raises(StateTimeoutError, match="is another database"):
            store.write(put("b"), 1.0)
        with pytest.raises(StateTimeoutError, match="is another database"):
            store.read(names, 1.0)


def test_a_database_that_went_back_is_not_used(on_postgres: Postgres) -> None:
    """As a standby does that had not got the last commits."""
    with opened(on_postgres) as store:
        store.write(put("a"))
        on_postgres.server.disconnect(on_postgres.url)
        on_postgres.server.run(on_postgres.url, "UPDATE langtrain.head SET sequence = 0")
        with pytest.raises(StateTimeoutError, match="went back to change 0, and 1 had been written"):
            store.write(put("b"), 1.0)
