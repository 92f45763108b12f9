"""One ledger, several processes: counted exactly, whoever is killed, stopped or started in between."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from interceptors.ledger import Bucket
from sidecar.limits.ledger_mmap import MmapLedger
from tests.limits.ledgers import HUNDRED_A_DAY, charge, drain
from tests.limits.takers import HELD, Taker, close, patiently, stop_while_locked, stop_while_writing, take, takers
from tests.waiting import eventually

ROUNDS = 50


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.bin"


def together(workers: list[Taker], key: str, times: int, bucket: Bucket = HUNDRED_A_DAY) -> Counter[str]:
    """All of them take at once; what became of all tries."""
    for worker in workers:
        worker.ask(take, key, bucket, times)
    return sum((worker.answer() for worker in workers), Counter[str]())


def test_two_thousand_takes_of_a_hundred_a_day_over_four_processes(path: Path) -> None:
    with takers(path, 4) as workers:
        for number in range(ROUNDS):
            became = together(workers, f"round {number}", 500)
            assert became[""] == 100, f"round {number}: {became}"
            assert became.keys() <= {"", "exceeded", "ledger_busy"}
            assert became.total() == 2000


def test_several_buckets_over_several_stripes_are_counted_exactly(path: Path) -> None:
    with takers(path, 4) as workers:
        for number in range(20):
            for turn, worker in enumerate(workers):
                worker.ask(take_both, [f"{number}a", f"{number}b"][:: -1 if turn % 2 else 1], 200)
            became = sum((worker.answer() for worker in workers), Counter[str]())
            assert became[""] == 100, f"round {number}: {became}"


def take_both(ledger: MmapLedger, pipe: Any, keys: list[str], times: int) -> Counter[str]:
    return asyncio.run(patiently(ledger, [charge(key) for key in keys], times))


@pytest.mark.parametrize("stop", [stop_while_locked, stop_while_writing])
def test_a_killed_holder_keeps_nobody_waiting_and_grants_nothing(path: Path, stop: Callable[..., Any]) -> None:
    with takers(path, 3) as workers:
        holder, *others = workers
        for number in range(10):
            key = f"round {number}"
            assert holder.call(stop, key, HUNDRED_A_DAY) == HELD
            holder.kill()
            assert together(others, key, 200)[""] == 100
            holder = workers[0] = Taker(path)


def test_a_stopped_holder_fails_its_own_stripe_closed_until_it_goes_on(path: Path) -> None:
    with takers(path, 2) as (holder, other):
        assert other.call(take, "k", HUNDRED_A_DAY, 30) == {"": 30}
        assert holder.call(stop_while_locked, "k", HUNDRED_A_DAY) == HELD
        holder.signal(signal.SIGSTOP)
        assert other.call(take, "k", HUNDRED_A_DAY, 500) == {"ledger_busy": 500}
        elsewhere = [other.call(take, f"elsewhere {number}", HUNDRED_A_DAY, 1) for number in range(64)]
        assert sum(elsewhere, Counter[str]())[""] >= 48  # of 64 stripes one is held
        holder.signal(signal.SIGCONT)
        holder.ask(take, "", HUNDRED_A_DAY, 0)  # the word that the stopped take waits for
        assert holder.answer() == {"": 1}
        assert together([other], "k", 200) == {"": 69, "exceeded": 131}


def test_processes_killed_at_random_never_grant_more(path: Path) -> None:
    chance = Random(7)
    with takers(path, 3) as workers:
        for number in range(10):
            key = f"round {number}"
            for worker in workers:
                worker.ask(take, key, HUNDRED_A_DAY, 5_000)
            time.sleep(chance.random() / 20)  # anywhere in the middle is as good as any other place
            workers[0].kill()
            workers[0] = Taker(path)
            became = sum((worker.answer() for worker in workers[1:]), Counter[str]())
            assert became[""] <= 100
            assert together(workers, key, 10)[""] == 0


def test_a_restart_of_every_process_grants_nothing_more(path: Path) -> None:
    for granted in (100, 0, 0):
        with takers(path, 2) as workers:
            assert together(workers, "k", 200)[""] == granted
            workers[0].call(close)  # one leaves in order, the other is killed


def test_steps_of_the_wall_clock_change_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MmapLedger(path, lambda reason: None)
    assert drain(ledger) == 100
    real = {name: getattr(time, name) for name in ("time", "time_ns")}
    for step_s in (3600, -3600, 86400):
        monkeypatch.setattr(time, "time", lambda step_s=step_s: real["time"]() + step_s)
        monkeypatch.setattr(time, "time_ns", lambda step_s=step_s: real["time_ns"]() + step_s * 10**9)
        assert drain(ledger) == 0
        ledger.close()
        ledger = MmapLedger(path, lambda reason: None)
        assert drain(ledger) == 0
    ledger.close()


def test_a_forked_child_opens_its_own(path: Path) -> None:
    ledger = MmapLedger(path, lambda reason: None)
    child = os.fork()
    if not child:
        try:
            ledger.take_all([charge()])
        except ValueError:
            os._exit(7)
        os._exit(0)
    status: list[int] = []

    def ended() -> bool:
        found, code = os.waitpid(child, os.WNOHANG)
        status.append(code)
        return found == child

    eventually(ended, "the child ends")
    assert os.waitstatus_to_exitcode(status[-1]) == 7
    assert drain(ledger) == 100
    ledger.close()
