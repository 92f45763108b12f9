"""Work that is done in threads: each connection's in turn, and none for calls that are over."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from sidecar.relay.aside import THREADS, Aside
from tests.relay.hand_turned import HandTurned


class Bench:
    """Jobs that note when they were done, on a loop turned by hand."""

    def __init__(self) -> None:
        self.loop = HandTurned()
        loop: Any = self.loop
        self.aside = Aside(loop)
        self.worked: list[str] = []
        self.done: list[str] = []
        self.over: set[str] = set()

    def add(self, holder: str, count: int) -> None:
        for number in range(count):
            name = f"{holder}{number}"
            self.aside.run(
                holder, partial(self.worked.append, name), partial(self._wanted, name), partial(self._did, name)
            )

    def _wanted(self, name: str) -> bool:
        return name not in self.over

    def _did(self, name: str, future: asyncio.Future[None]) -> None:
        self.done.append(name)


def test_connections_have_their_turns() -> None:
    bench = Bench()
    bench.add("a", 6)
    bench.add("b", 2)
    bench.loop.turn()
    assert bench.worked == ["a0", "a1", "a2", "b0", "a3", "b1", "a4", "a5"]
    assert sorted(bench.done) == sorted(bench.worked)


def test_no_more_at_once_than_there_are_threads() -> None:
    bench = Bench()
    bench.add("a", 10)
    assert len(bench.loop._ready) == THREADS


def test_what_is_not_wanted_any_more_is_not_done() -> None:
    bench = Bench()
    bench.add("a", 6)
    bench.over = {"a3", "a4"}
    bench.loop.turn()
    assert bench.worked == ["a0", "a1", "a2", "a5"]
    assert sorted(bench.done) == ["a0", "a1", "a2", "a5"]


def test_work_that_fails_tells_so_and_keeps_nobody() -> None:
    bench = Bench()

    def fails() -> None:
        raise ValueError("no")

    found: list[BaseException | None] = []
    bench.aside.run("a", fails, lambda: True, lambda future: found.append(future.exception()))
    bench.add("b", 3)
    bench.loop.turn()
    assert [type(error) for error in found] == [ValueError]
    assert bench.worked == ["b0", "b1", "b2"]
    assert bench.aside._running == 0
