"""The limit found from latency, against a simulated model server: some places, a time for each call, one line."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.relay.concurrency import CALM, METHODS, SAMPLES, SLACK_S, START, Concurrency

PATH = "/t.S/Infer"
Times = Callable[[float, Random], tuple[str, float]]


class Run:
    """What became of the calls: when each was asked, by which method, and what it took; and when calls were refused."""

    def __init__(self) -> None:
        self.answered: list[tuple[float, str, float]] = []
        self.refused: list[float] = []
        self.most = 0

    def rate(self, since: float, until: float) -> float:
        """Answers a second."""
        return sum(since <= asked + took < until for asked, _, took in self.answered) / (until - since)

    def quantile(self, share: float, since: float = 0.0, path: str = PATH) -> float:
        times = sorted(took for asked, method, took in self.answered if asked >= since and method == path)
        return times[int(share * (len(times) - 1))]


def steady(seconds: float, path: str = PATH) -> Times:
    """Service times around `seconds`, a fifth more or less."""
    return lambda _, chance: (path, seconds * chance.uniform(0.8, 1.2))


def simulate(
    arrivals: Iterator[float], times: Times, places: int, until: float, limiter: Concurrency | None = None
) -> Run:
    """Open loop: calls come when they come, and wait in line at a server of `places`."""
    run, chance = Run(), Random(7)
    limiter = limiter or Concurrency(0.0)
    free = [0.0] * places  # when each place is free
    ends: list[tuple[float, int, float, str]] = []
    number, beat = count(), 0.0
    for now in arrivals:
        if now > until:
            break
        while ends and ends[0][0] <= now:
            ended, _, asked, path = heapq.heappop(ends)
            limiter.answered(path, ended - asked, ended)
            run.answered.append((asked, path, ended - asked))
        if now - beat > 0.5:
            beat = now
            limiter.look(now)
        if limiter.full:
            limiter.refused()
            run.refused.append(now)
            continue
        path, seconds = times(now, chance)
        begins = max(now, heapq.heappop(free))
        heapq.heappush(free, begins + seconds)
        heapq.heappush(ends, (begins + seconds, next(number), now, path))
        limiter.asked()
        run.most = max(run.most, limiter.waiting)
    return run


def poisson(per_second: Callable[[float], float]) -> Iterator[float]:
    chance, now = Random(3), 0.0
    while True:
        now += chance.expovariate(per_second(now))
        yield now


@pytest.mark.parametrize(
    ("places", "seconds"),
    [(4, 0.02), (1, 0.01), (16, 0.05), (64, 0.1), (8, 1.0), (8, 10.0)],
    ids=lambda value: f"{value:g}",
)
def test_five_times_the_capacity_is_shed(places: int, seconds: float) -> None:
    capacity = places / seconds
    begins = 20 * seconds + 5
    until = begins + max(60.0, 120 * seconds)
    load = poisson(lambda now: capacity * (0.4 if now < begins else 5.0))
    run = simulate(load, steady(seconds), places, until)
    unloaded = 1.2 * seconds
    settled = begins + max(5.0, 50 * seconds)  # the line of the first calls is gone
    assert run.rate(settled, until - 4 * seconds) >= 0.8 * capacity
    assert run.quantile(0.99, settled) <= 3 * unloaded + SLACK_S


def test_under_overload_from_the_first_call_what_is_usual_is_found_in_dips() -> None:
    run = simulate(poisson(lambda _: 1000.0), steady(0.02), 4, 60.0)
    assert run.rate(20.0, 60.0) >= 160
    assert run.quantile(0.99, 20.0) <= 3 * 0.024


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_nothing_is_refused_below_the_capacity(share: float) -> None:
    run = simulate(poisson(lambda _: 800 * share), steady(0.02), 16, 60.0)
    assert run.refused == []


def test_a_burst_that_passes_is_not_overload() -> None:
    """As many at once as one connection may have open, now and then."""
    every = (second + at * 1e-4 for second in range(60) for at in range(90))
    assert simulate(every, steady(0.005), 4, 60.0).refused == []


def test_a_server_that_becomes_slower_for_good_is_used_as_before() -> None:
    """Answers take ten times as long from then on, without any line: nothing is gained by refusing."""
    times: Times = lambda now, chance: (PATH, (0.01 if now < 20 else 0.1) * chance.uniform(0.8, 1.2))  # noqa: E731
    run = simulate(poisson(lambda _: 300.0), times, 1000, 60.0)
    assert [at for at in run.refused if not 20 <= at < 30] == []
    assert len(run.refused) < 3 * 300  # of three seconds


def test_few_calls_that_become_slow_are_no_line() -> None:
    """Two at a time, slower for three seconds by the server's own doing; then comes a burst."""
    limiter = Concurrency(0.0)
    times: Times = lambda now, chance: (PATH, (0.2 if 10 < now < 13 else 0.01) * chance.uniform(0.8, 1.2))  # noqa: E731
    simulate(poisson(lambda _: 10.0), times, 1000, 13.0, limiter)
    assert CALM <= limiter.limit < START


def test_methods_are_compared_with_themselves() -> None:
    """First only fast calls, then mostly slow ones of another method: no sign of overload."""

    def mixed(now: float, chance: Random) -> tuple[str, float]:
        slow = now > 20 and chance.random() < 0.8
        return ("/t.S/Slow", 0.2) if slow else (PATH, 0.002)

    assert simulate(poisson(lambda _: 200.0), mixed, 1000, 60.0).refused == []


def test_after_the_load_bursts_are_taken_again() -> None:
    load = poisson(lambda now: 1000.0 if now < 20 else 20.0)
    limiter = Concurrency(0.0)
    run = simulate(load, steady(0.02), 4, 40.0, limiter)
    assert any(at < 20 for at in run.refused)
    assert limiter.limit >= START
    assert [at for at in run.refused if at > 21] == []


def late_windows(limiter: Concurrency, number: int) -> None:
    """Windows in which every one of 10 open calls is late, after one that was not."""
    for seconds, windows in ((0.01, 1), (0.2, number)):
        for _ in range(windows):
            now = 1000.0 + limiter._began
            limiter._open(now - 1.0)
            for _ in range(SAMPLES):
                limiter.asked()
            for _ in range(SAMPLES):
                limiter.answered(PATH, seconds, now)


@pytest.mark.parametrize(("windows", "acts"), [(1, False), (2, False), (3, True)])
def test_only_what_lasts_is_acted_upon(windows: int, acts: bool) -> None:
    limiter = Concurrency(0.0)
    late_windows(limiter, windows)
    assert (limiter.limit < START) is acts


def test_methods_beyond_those_told_apart_are_not_watched() -> None:
    limiter = Concurrency(0.0)
    for number in range(METHODS * 2):
        limiter.asked()
        limiter.answered(f"/t.S/M{number}", 0.01, 1.0 + number)
    assert len(limiter._usual) == METHODS
    assert limiter.waiting == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(("ask", "answer", "leave", "look")), st.floats(0, 30), st.sampled_from("abc")),
        max_size=300,
    )
)
def test_whatever_happens_some_calls_are_taken_and_counts_return(steps: Sequence[tuple[str, float, str]]) -> None:
    limiter, now, open_calls = Concurrency(0.0), 0.0, 0
    for step, seconds, path in steps:
        now += seconds / 10
        if step == "ask" and not limiter.full:
            limiter.asked()
            open_calls += 1
        elif step == "ask":
            limiter.refused()
        elif step in ("answer", "leave") and open_calls:
            open_calls -= 1
            (limiter.answered if step == "answer" else limiter.left)(path, min(seconds, now), now)
        elif step == "look":
            limiter.look(now)
        assert limiter.limit >= 1.0
        assert limiter.waiting == open_calls
