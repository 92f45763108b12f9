"""What is committed is recorded: before it is answered, and after whatever came between, on either database."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from interceptors.events import Durability, Event
from sidecar.errors import RequestError
from sidecar.state import outbox as module
from sidecar.state import upkeep
from sidecar.state.outbox import Outbox, UnrecordedError
from sidecar.state.ports import StateError, Transaction
from sidecar.state.store import DatabaseStore
from tests.state.engines import Engine, opened
from tests.waiting import eventually


class Trail:
    """An audit trail that can be away."""

    def __init__(self) -> None:
        self.away = False
        self.events: list[Event] = []

    def record(self, events: Sequence[Event]) -> None:
        if self.away:
            raise StateError("the disk is full")
        self.events += events

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events]


@pytest.fixture
def trail() -> Trail:
    return Trail()


@pytest.fixture
def outbox(store: DatabaseStore, trail: Trail) -> Iterator[Outbox]:
    made = Outbox(store, trail.record, "first")
    yield made
    made.close()


def event(reason: str) -> Event:
    return Event("thing.made", 12.5, Durability.COMMIT, "acme", "user:corp/ü\0", "10.0.0.1", "/x.Y/Z", reason=reason)


def put(outbox: Outbox, *reasons: str) -> Callable[[Transaction], None]:
    def work(transaction: Transaction) -> None:
        for reason in reasons:
            outbox.put(transaction, event(reason))

    return work


def lying(store: DatabaseStore) -> int:
    ((count,),) = store.read(lambda reading: reading.rows("SELECT count(*) FROM outbox"))
    return int(count)


def test_what_is_put_is_recorded_as_it_was_before_it_is_answered(
    outbox: Outbox, store: DatabaseStore, trail: Trail
) -> None:
    outbox.write(put(outbox, "a", "b"))
    assert trail.events == [event("a"), event("b")]
    assert lying(store) == 0
    outbox.write(put(outbox, "c"))
    assert trail.reasons() == ["a", "b", "c"]


def test_what_was_undone_is_not_recorded(outbox: Outbox, store: DatabaseStore, trail: Trail) -> None:
    def work(transaction: Transaction) -> None:
        outbox.put(transaction, event("undone"))
        raise RequestError([("name", "expected another")])

    with pytest.raises(RequestError):
        outbox.write(work)
    outbox.write(put(outbox, "done"))
    assert trail.reasons() == ["done"]


def test_what_cannot_be_recorded_is_told_and_recorded_later(
    outbox: Outbox, store: DatabaseStore, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RETRY_S", 0.05)
    outbox.start()
    trail.away = True
    with pytest.raises(UnrecordedError):
        outbox.write(put(outbox, "a"))
    assert (trail.reasons(), lying(store)) == ([], 1)
    trail.away = False
    eventually(lambda: trail.reasons() == ["a"], "recorded, though nobody asks any more")
    eventually(lambda: lying(store) == 0, "taken out")


def test_who_answers_again_finds_what_was_left_recorded(outbox: Outbox, trail: Trail) -> None:
    trail.away = True
    with pytest.raises(UnrecordedError):
        outbox.write(put(outbox, "a"))
    trail.away = False
    outbox.write(lambda transaction: None)
    assert trail.reasons() == ["a"]


def test_each_of_many_at_once_is_recorded_once(
    outbox: Outbox, store: DatabaseStore, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 3)

    def one(number: int) -> bool:
        outbox.write(put(outbox, f"{number:02}"))
        return f"{number:02}" in trail.reasons()

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(one, range(40)))
    assert sorted(trail.reasons()) == [f"{number:02}" for number in range(40)]
    assert lying(store) == 0


def test_who_records_for_long_keeps_others_no_longer_than_a_while(
    store: DatabaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    recording, go_on = threading.Event(), threading.Event()

    def slowly(events: Sequence[Event]) -> None:
        recording.set()
        go_on.wait(30)

    outbox = Outbox(store, slowly, "first")
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(outbox.write, put(outbox, "a"))
        assert recording.wait(30)
        with pytest.raises(UnrecordedError):
            outbox.write(put(outbox, "b"))
        go_on.set()
        slow.result(30)
    assert lying(store) == 0  # whoever recorded took the other along


def test_a_kill_between_loses_no_event(engine: Engine, trail: Trail) -> None:
    names = ["first", "second"]
    for name in names:
        command = [sys.executable, "-m", "tests.state.recording", str(engine.directory), engine.url, name]
        assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    with opened(engine) as store:
        made = store.read(lambda reading: reading.rows("SELECT name FROM things ORDER BY name"))
        assert made == [(name,) for name in names]
        outbox = Outbox(store, trail.record, "another")
        outbox.start()
        eventually(lambda: trail.reasons() == names, "recorded")
        eventually(lambda: lying(store) == 0, "taken out")
        outbox.close()


def test_what_another_process_is_about_to_record_is_left_to_it_for_a_while(
    store: DatabaseStore, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several sidecars share a database, each with a trail of its own."""
    monkeypatch.setattr(module, "LOOK_S", 0.3)
    outbox, other = Outbox(store, trail.record, "first"), Outbox(store, trail.record, "other")
    outbox.start()
    outbox.write(put(outbox, "a"))
    eventually(lambda: outbox._left is not None, "it has looked")
    store.write(put(other, "left"))  # and the other ends
    outbox.write(put(outbox, "b"))
    assert trail.reasons() == ["a", "b"]
    eventually(lambda: trail.reasons() == ["a", "b", "left"], "taken over")
    outbox.close()


def test_what_nobody_can_read_holds_up_nothing(outbox: Outbox, store: DatabaseStore, trail: Trail) -> None:
    def work(transaction: Transaction) -> None:
        for reason in ("torn", "later", "good"):
            outbox.put(transaction, event(reason))
        transaction.run("UPDATE outbox SET event = '{' WHERE event LIKE '%torn%'")
        later = '{"kind": "thing.made", "time": 1.0, "reason": "later", "of_a_later_version": 1}'
        transaction.run("UPDATE outbox SET event = ? WHERE event LIKE '%later%'", later)

    outbox.write(work)
    assert [(each.kind, each.reason) for each in trail.events] == [
        ("audit.malformed", "outbox"),
        ("thing.made", "later"),
        ("thing.made", "good"),
    ]


def test_what_was_recorded_and_cannot_be_taken_out_is_not_recorded_again(
    outbox: Outbox, store: DatabaseStore, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise StateError("away")

    write = store.write
    monkeypatch.setattr(outbox, "_take_out", lambda: None)
    outbox.write(put(outbox, "a"))
    outbox.write(put(outbox, "b"))
    assert trail.reasons() == ["a", "b"]
    monkeypatch.undo()
    monkeypatch.setattr(store, "write", broken)
    outbox._take_out()
    assert lying(store) == 2
    monkeypatch.setattr(store, "write", write)
    outbox.write(put(outbox, "c"))
    assert trail.reasons() == ["a", "b", "c"]
    assert lying(store) == 0
