"""Calls that wait for a lock of the ledger while another process holds it, on a loop that is turned by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interceptors.ledger import TAKEN, Taken
from sidecar.limits.ledger_mmap import MmapLedger
from sidecar.limits.waiting import LONGEST_S, WAIT_S, Waiting
from tests.limits.ledgers import Host, charge, refusal
from tests.relay.hand_turned import HandTurned

BUSY = Taken("ledger_busy")


class Pair:
    """Two ledgers of one file, as of two processes: `ours` is waited for while `other` holds locks."""

    def __init__(self, path: Path) -> None:
        self.host = Host()
        self.ours, self.other = self.host.ledger(path), self.host.ledger(path)
        self.loop = HandTurned()
        self._waiting = Waiting(self.ours, self.loop.time)

    def take(self, *keys: str) -> asyncio.Task[Taken]:
        task: asyncio.Task[Taken] = self.loop.begin(self._waiting.take_all([charge(key) for key in keys]))
        self.loop.turn()
        return task

    def hold(self, *keys: str) -> list[int]:
        stripes = self.other.stripes([charge(key) for key in keys])
        assert self.other._stripes.lock(stripes)
        return stripes

    def let_go(self, stripes: list[int]) -> None:
        self.other._stripes.unlock(stripes)

    def passes(self, seconds: float) -> None:
        until = self.loop.now + seconds
        self.loop.turn()
        while self.loop.step(until):
            self.loop.turn()
        self.loop.turn()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path / "limits.bin")
    yield made
    made.ours.close()
    made.other.close()


def elsewhere(ledger: MmapLedger, key: str) -> str:
    """A key that needs another lock."""
    mine = ledger.stripes([charge(key)])
    return next(name for name in map(str, range(1000)) if ledger.stripes([charge(name)]) != mine)


def test_whoever_finds_it_free_does_not_wait(pair: Pair) -> None:
    assert pair.take("k").result() == TAKEN
    assert pair.loop.due() is None


def test_a_holder_that_lost_its_processor_is_waited_for(pair: Pair) -> None:
    held = pair.hold("k")
    assert refusal(pair.ours, charge("k")) == "ledger_busy"
    waiting = [pair.take("k") for _ in range(3)]
    pair.passes(WAIT_S / 2)
    assert not any(task.done() for task in waiting)
    assert pair.take(elsewhere(pair.ours, "k")).result() == TAKEN
    pair.let_go(held)
    pair.passes(LONGEST_S)
    assert [task.result() for task in waiting] == [TAKEN] * 3
    assert pair.host.troubles == []


def test_each_is_told_what_became_of_its_own(pair: Pair) -> None:
    held = pair.hold("k")
    waiting = [pair.take("k") for _ in range(102)]
    pair.let_go(held)
    pair.passes(LONGEST_S)
    assert [task.result().refusal for task in waiting] == [""] * 100 + ["exceeded"] * 2  # in their order


def test_a_stopped_holder_is_waited_for_once_until_its_lock_is_got_again(pair: Pair) -> None:
    held = pair.hold("k")
    waiting = [pair.take("k") for _ in range(3)]
    pair.passes(WAIT_S + LONGEST_S)
    assert [task.result() for task in waiting] == [BUSY] * 3
    assert pair.take("k").result() == BUSY
    assert pair.host.troubles == ["ledger_busy"]
    other = elsewhere(pair.ours, "k")
    assert pair.take(other).result() == TAKEN
    both = pair.take("k", other)
    assert both.result() == BUSY
    pair.let_go(held)
    assert refusal(pair.ours, charge("k")) == ""
    again = pair.hold("k")
    late = pair.take("k")
    pair.passes(WAIT_S / 2)
    assert not late.done()
    pair.let_go(again)
    pair.passes(LONGEST_S)
    assert late.result() == TAKEN


def test_who_has_stood_in_line_waits_from_its_turn_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that goes on in the last moment may have the lock again before the next in line looks for it."""

    class Losing:
        """Our ledger, but the first time that it has taken, the other has the lock at once."""

        lost = False

        def __getattr__(self, name: str) -> Any:
            return getattr(pair.ours, name)

        def take_all(self, *args: Any, **options: Any) -> Taken:
            taken = pair.ours.take_all(*args, **options)
            if taken == TAKEN and not self.lost:
                self.lost = True
                held[:] = pair.hold("k")
            return taken

    monkeypatch.setattr(pair._waiting, "_ledger", Losing())
    held = pair.hold("k")
    first, *others = [pair.take("k") for _ in range(3)]
    pair.passes(WAIT_S - LONGEST_S)
    pair.let_go(held)
    pair.passes(LONGEST_S)
    assert first.result() == TAKEN
    pair.passes(WAIT_S / 2)
    assert not any(task.done() for task in others)
    pair.let_go(held)
    pair.passes(LONGEST_S)
    assert [task.result() for task in others] == [TAKEN] * 2
    assert pair.host.troubles == []


def test_nothing_is_kept_of_those_who_have_waited(pair: Pair) -> None:
    held = pair.hold("k")
    task = pair.take("k")
    lines: Any = pair._waiting._lines
    assert len(lines) == 1
    pair.let_go(held)
    pair.passes(LONGEST_S)
    assert task.result() == TAKEN
    assert len(lines) == 0
