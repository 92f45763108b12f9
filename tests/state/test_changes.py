"""Who follows the log of changes knows what the database knows, from whichever point on."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from sidecar.state.changes import GapError, changes_since, compact
from sidecar.state.ports import Reading, Transaction
from sidecar.state.store import DatabaseStore


def change(transaction: Transaction, key: str, body: bytes = b"") -> int:
    return transaction.change("test", "thing", key, body)


def test_changes_come_in_order_a_few_at_a_time(store: DatabaseStore) -> None:
    assert store.read(lambda reading: changes_since(reading, 0)) == []
    numbers = store.write(lambda transaction: [change(transaction, f"key {number}", b"body") for number in range(5)])
    assert numbers == [1, 2, 3, 4, 5]
    found = store.read(lambda reading: changes_since(reading, 1, most=3))
    assert [each[:5] for each in found] == [(n, "test", "thing", f"key {n - 1}", b"body") for n in (2, 3, 4)]
    assert store.read(lambda reading: changes_since(reading, 5)) == []


def test_who_asks_for_what_is_not_there_must_begin_again(store: DatabaseStore) -> None:
    for number in range(10):
        store.write(partial(change, key=str(number)))
    assert store.write(lambda transaction: compact(transaction, keep=4)) == 6
    assert store.write(lambda transaction: compact(transaction, keep=8)) == 0
    with pytest.raises(GapError, match="changes after 5 are asked for, and 6 to 10 are there"):
        store.read(lambda reading: changes_since(reading, 5))
    with pytest.raises(GapError, match="after 11"):
        store.read(lambda reading: changes_since(reading, 11))
    assert [each.sequence for each in store.read(lambda reading: changes_since(reading, 6))] == [7, 8, 9, 10]
    assert store.write(lambda transaction: compact(transaction, keep=0)) == 4
    assert store.write(lambda transaction: change(transaction, "next")) == 11
    assert [each.sequence for each in store.read(lambda reading: changes_since(reading, 10))] == [11]


def test_a_snapshot_and_the_changes_after_it_are_the_state(store: DatabaseStore) -> None:
    """A follower begins anywhere, looks when it likes, and begins again where the log was compacted."""
    chance = Random(5)
    known: dict[str, int] = {}
    at = -1
    for _ in range(120):
        key, number = f"key {chance.randrange(12)}", chance.randrange(100)
        if chance.random() < 0.3:
            store.write(partial(remove, key=key))
        else:
            store.write(partial(put, key=key, number=number))
        if chance.random() < 0.1:
            store.write(lambda transaction: compact(transaction, keep=2))
        if chance.random() < 0.3:
            at = catch_up(store, known, at)
            assert known == store.read(everything)
    assert at > 50


def catch_up(store: DatabaseStore, known: dict[str, int], at: int) -> int:
    try:
        found = store.read(lambda reading: changes_since(reading, at))
    except GapError:
        at, all_there_is = store.read(lambda reading: (reading.head().sequence, everything(reading)))
        known.clear()
        known |= all_there_is
        return at
    for each in found:
        if each.body:
            known[each.key] = int(each.body)
        else:
            known.pop(each.key, None)
    return found[-1].sequence if found else at


def put(transaction: Transaction, key: str, number: int) -> None:
    transaction.run(
        "INSERT INTO things (name, number) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET number = ?",
        key,
        number,
        number,
    )
    change(transaction, key, b"%d" % number)


def remove(transaction: Transaction, key: str) -> None:
    if transaction.run("DELETE FROM things WHERE name = ?", key):
        change(transaction, key)


def everything(reading: Reading) -> dict[str, int]:
    return dict(reading.rows("SELECT name, number FROM things"))
