"""What is dropped from the state by itself, on either database."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from sidecar.state import housekeeping as module
from sidecar.state.housekeeping import Housekeeping
from sidecar.state.idempotency import KEEP_S, Scope, recall, remember
from sidecar.state.ports import Transaction
from sidecar.state.store import DatabaseStore
from tests.waiting import eventually

NOW = 1_700_000_000.0
SCOPE = Scope("default", "user:corp/ada", "/x.Y/Z", "once")


@pytest.fixture
def housekeeping(store: DatabaseStore) -> Iterator[Housekeeping]:
    made = Housekeeping(store, lambda: NOW)
    yield made
    made.close()


@pytest.mark.parametrize(("written", "compacted"), [(4, 0), (5, 3)])
def test_the_log_does_not_grow_for_ever(
    housekeeping: Housekeeping, store: DatabaseStore, monkeypatch: pytest.MonkeyPatch, written: int, compacted: int
) -> None:
    monkeypatch.setattr(module, "KEEP", 2)
    for number in range(written):
        store.write(partial(change, str(number)))
    store.write(lambda transaction: remember(transaction, SCOPE, bytes(32), b"gone", NOW - KEEP_S))
    housekeeping.start()
    eventually(lambda: answers(store) == 0, "it has looked through everything")
    assert store.read(lambda reading: reading.head()).compacted == compacted


def test_answers_are_kept_for_a_day(housekeeping: Housekeeping, store: DatabaseStore) -> None:
    late = SCOPE._replace(key="late")
    store.write(lambda transaction: remember(transaction, SCOPE, bytes(32), b"gone", NOW - KEEP_S))
    store.write(lambda transaction: remember(transaction, late, bytes(32), b"kept", NOW - KEEP_S + 1.0))
    housekeeping.start()
    eventually(lambda: answers(store) == 1, "one is dropped")
    assert store.read(lambda reading: recall(reading, late, bytes(32), NOW)) == b"kept"


def change(key: str, transaction: Transaction) -> None:
    transaction.change("x", "y", key, b"z")


def answers(store: DatabaseStore) -> int:
    ((count,),) = store.read(lambda reading: reading.rows("SELECT count(*) FROM idempotency"))
    return int(count)
