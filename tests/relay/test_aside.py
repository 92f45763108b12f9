"""Work that is done in threads: each connection's in turn, and none for calls that are over."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import weakref
from functools import partial
from typing import Any

import pytest

from sidecar.relay.aside import NICE, THREADS, Aside, Job
from tests.relay.hand_turned import HandTurned


class Bench:
    """Jobs that note when they were done, on a loop turned by hand."""

    def __init__(self) -> None:
        self.loop = HandTurned()
        loop: Any = self.loop
        self.aside = Aside(loop)
        self.worked: list[str] = []
        self.done: list[str] = []
        self.jobs: dict[str, Job] = {}

    def add(self, holder: str, count: int) -> None:
        for number in range(count):
            name = f"{holder}{number}"
            self.jobs[name] = self.aside.run(holder, partial(self.worked.append, name), partial(self._did, name))

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


def test_what_is_dropped_is_not_done() -> None:
    bench = Bench()
    bench.add("a", 6)
    for name in ("a3", "a4"):
        bench.aside.drop(bench.jobs[name])
    bench.loop.turn()
    assert bench.worked == ["a0", "a1", "a2", "a5"]
    assert sorted(bench.done) == ["a0", "a1", "a2", "a5"]
    assert not bench.aside._waiting


def test_what_is_dropped_in_a_thread_is_not_told_of() -> None:
    bench = Bench()
    bench.add("a", 3)
    bench.aside.drop(bench.jobs["a0"])
    assert bench.aside.busy
    bench.loop.turn()
    assert not bench.aside.busy
    assert bench.worked == ["a0", "a1", "a2"]
    assert bench.done == ["a1", "a2"]


def test_what_is_dropped_is_not_held_until_its_turn() -> None:
    """Its message may be of megabytes, and is not charged any more."""
    bench = Bench()
    bench.add("a", THREADS)
    held = {1}
    there = weakref.ref(held)
    jobs = [bench.aside.run("b", partial(len, held), lambda _: None) for _ in range(3)]
    del held
    for job in jobs:
        assert there() is not None
        bench.aside.drop(job)
    assert there() is None
    assert not bench.aside._waiting


def test_work_that_fails_tells_so_and_keeps_nobody() -> None:
    bench = Bench()

    def fails() -> None:
        raise ValueError("no")

    found: list[BaseException | None] = []
    bench.aside.run("a", fails, lambda future: found.append(future.exception()))
    bench.add("b", 3)
    bench.loop.turn()
    assert [type(error) for error in found] == [ValueError]
    assert bench.worked == ["b0", "b1", "b2"]
    assert bench.aside._running == 0


def priority() -> int:
    """This thread's, 19 being the lowest."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def worked() -> int:
    """The priority of a thread at work."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[int] = loop.create_future()
    Aside(loop).run("a", priority, lambda future: found.set_result(future.result()))
    return await found


def test_threads_yield_to_the_loop() -> None:
    before = priority()
    assert asyncio.run(worked()) == min(19, before + NICE)
    assert priority() == before


def test_threads_that_may_not_yield_work_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under `SystemCallFilter=~@resources` of systemd."""

    def refused(*_: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refused)
    assert asyncio.run(worked()) == priority()
