"""The limit found from latency, against a simulated model server: some places, a time for each call, one line."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import count, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.relay.concurrency import BURST, SAMPLES, SHORT, Concurrency
from sidecar.relay.usual import COHORT_S, SLACK_S

PATH = "/t.S/Infer"
SLOW = "/t.S/Slow"
NOBODY: Iterator[float] = iter(())
Times = Callable[[float, Random], tuple[str, float]]  # when a call is begun to be worked on: its method, and seconds


class Run:
    """What became of the calls: when each was asked, by which method, and what it took; and when calls were refused."""

    def __init__(self) -> None:
        self.answered: list[tuple[float, str, float]] = []
        self.refused: list[float] = []

    def rate(self, since: float, until: float) -> float:
        """Answers a second."""
        return sum(since <= asked + took < until for asked, _, took in self.answered) / (until - since)

    def quantile(self, share: float, since: float = 0.0, until: float = 1e9, path: str = PATH) -> float:
        times = sorted(took for asked, method, took in self.answered if since <= asked < until and method == path)
        return times[int(share * (len(times) - 1))]


def steady(seconds: float, path: str = PATH) -> Times:
    """Around `seconds`, a fifth more or less."""
    return lambda _, chance: (path, seconds * chance.uniform(0.8, 1.2))


def spread(seconds: float) -> Times:
    """Exponential: many short ones, some long."""
    return lambda _, chance: (PATH, chance.expovariate(1 / seconds))


def mixed(_: float, chance: Random) -> tuple[str, float]:
    """One of 20 takes a hundred times as long as the others: on average, 0.03 s."""
    seconds = chance.uniform(0.8, 1.2)
    return (SLOW, 0.5 * seconds) if chance.random() < 0.05 else (PATH, 0.005 * seconds)


def simulate(
    arrivals: Iterator[float],
    times: Times,
    places: int,
    until: float,
    limiter: Concurrency | None = None,
    callers: int = 0,
    deadline: float = 1e9,
    of_callers: Times | None = None,
) -> Run:
    """Calls that come when they come, and wait in line at a server of `places`.

    callers: others, each with one call after the other, who come again 0.2 s after a refusal.  of_callers: what these
    take; `times` where unset.  deadline: seconds after which a call is cancelled; the server works on it all the same.
    """
    run, chance, number = Run(), Random(7), count()
    limiter = limiter or Concurrency(0.0)
    free = [0.0] * places  # when each place is free
    events: list[tuple[float, int, str, float, str, int]] = []  # when, which, what, asked when, the method, its mark

    def add(when: float, what: str, asked: float = 0.0, path: str = "", mark: int = 0) -> None:
        heapq.heappush(events, (when, next(number), what, asked, path, mark))

    def come(now: float, closed: bool) -> None:
        if limiter.full:
            limiter.refused()
            run.refused.append(now)
            if closed:
                add(now + 0.2, "again")
            return
        begins = max(now, heapq.heappop(free))
        path, seconds = (of_callers if closed and of_callers else times)(begins, chance)
        heapq.heappush(free, begins + seconds)
        mark = limiter.asked()
        if begins + seconds > now + deadline:
            add(now + deadline, "leave", now, path, mark)
        else:
            add(begins + seconds, "answer again" if closed else "answer", now, path, mark)

    for _ in range(callers):
        add(0.0, "again")
    add(next(arrivals, until), "call")
    add(0.5, "look")
    while events[0][0] < until:
        now, _, what, asked, path, mark = heapq.heappop(events)
        if what == "look":
            limiter.look(now)
            add(now + 0.5, "look")
        elif what == "leave":
            limiter.left(path, mark, now - asked, now, False)
        elif what.startswith("answer"):
            limiter.answered(path, mark, now - asked, now)
            run.answered.append((asked, path, now - asked))
            if what == "answer again":
                come(now, True)
        elif what == "call":
            come(now, False)
            add(next(arrivals, until), "call")
        else:
            come(now, True)
    return run


def poisson(per_second: Callable[[float], float]) -> Iterator[float]:
    chance, now = Random(3), 0.0
    while True:
        now += chance.expovariate(per_second(now))
        yield now


def bursts(calls: int, *at: float) -> Iterator[float]:
    return (when + number * 1e-5 for when in at for number in range(calls))


# --- overload is shed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "seconds"),
    [(4, 0.02), (1, 0.01), (16, 0.05), (64, 0.1), (8, 0.005), (8, 1.0), (8, 10.0)],
    ids=lambda value: f"{value:g}",
)
def test_five_times_the_capacity_is_shed(places: int, seconds: float) -> None:
    capacity, unloaded = places / seconds, 1.2 * seconds
    begins = 20 * seconds + 5
    settled = begins + max(3.0, 30 * seconds)
    until = settled + max(20.0, 60 * seconds)
    run = simulate(poisson(lambda now: capacity * (0.4 if now < begins else 5.0)), steady(seconds), places, until)
    assert run.rate(begins, until) >= 0.9 * capacity
    assert run.quantile(0.99, settled) <= 3 * unloaded + SLACK_S
    # What came before it showed was worked off in little more than a second, or five times the usual.
    late = sum(took > 3 * unloaded + SLACK_S for _, _, took in run.answered)
    assert late <= capacity * max(1.6, 20 * seconds)


def test_of_five_minutes_of_overload_less_than_a_hundredth_is_late() -> None:
    run = simulate(poisson(lambda _: 1000.0), steady(0.02), 4, 300.0)
    assert run.rate(0.0, 300.0) >= 0.95 * 200
    assert run.quantile(0.99) <= 3 * 0.024


@pytest.mark.parametrize(("places", "seconds"), [(4, 0.02), (16, 0.5)])
def test_times_that_are_spread_widely_are_shed_too(places: int, seconds: float) -> None:
    capacity = places / seconds
    run = simulate(poisson(lambda _: 5 * capacity), spread(seconds), places, 90.0)
    assert run.rate(10.0, 88.0) >= 0.9 * capacity
    assert run.quantile(0.99, 20.0) <= 3 * 4.6 * seconds


def test_slow_and_fast_methods_are_shed_together() -> None:
    run = simulate(poisson(lambda _: 5 * 8 / 0.02975), mixed, 8, 60.0)
    assert run.rate(5.0, 60.0) >= 0.8 * 8 / 0.02975
    assert run.quantile(0.99, 5.0, path=SLOW) <= 3 * 0.6


@pytest.mark.parametrize("deadline", [0.1, 0.5])
def test_callers_who_give_up_are_overload_as_well(deadline: float) -> None:
    """Else a server works on nothing but calls that are cancelled before it gets to them."""
    run = simulate(poisson(lambda _: 1000.0), steady(0.02), 4, 40.0, deadline=deadline)
    assert run.rate(10.0, 40.0) >= 0.9 * 200


@pytest.mark.parametrize("load", [0.6, 5.0])
def test_a_server_three_times_as_slow_for_a_minute(load: float) -> None:
    def times(now: float, chance: Random) -> tuple[str, float]:
        return PATH, (0.06 if 20 <= now < 80 else 0.02) * chance.uniform(0.8, 1.2)

    limiter = Concurrency(0.0)
    run = simulate(poisson(lambda _: 200 * load), times, 4, 120.0, limiter)
    assert run.rate(25.0, 80.0) >= 0.9 * 67
    assert run.quantile(0.99, 25.0, 79.0) <= 3 * 0.072
    assert run.rate(85.0, 120.0) >= 0.95 * min(200, 200 * load)
    assert run.quantile(0.99, 90.0) <= 3 * 0.024
    assert limiter.shedding is (load > 1)
    if load < 1:
        assert [at for at in run.refused if not 20 < at < 82] == []


# --- what is none is not --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0.0, 20.0, 1000.0], ids="{:g} calls/s".format)
def test_a_burst_that_is_worked_off_is_not_refused(before: float) -> None:
    """Five hundred at once, which take 0.3 s in all: first of all, after few calls, or on a busy server."""
    load = (at for at in poisson(lambda _: before or 1e-9))
    run = simulate(heapq.merge(load, bursts(500, 10.0)), steady(0.005), 8, 20.0)
    assert run.refused == []
    assert len(run.answered) >= 500


@pytest.mark.parametrize(("calls", "seconds"), [(500, 0.005), (950, 0.008)])
def test_bursts_each_second_are_not_refused(calls: int, seconds: float) -> None:
    every = bursts(calls, *map(float, range(30)))
    assert simulate(every, steady(seconds), 8, 31.0).refused == []


@pytest.mark.parametrize("callers", [16, 50, 300])
def test_callers_who_wait_for_each_other_are_not_refused(callers: int) -> None:
    """A line stands for all the time, but it never grows, and is short in seconds."""
    run = simulate(NOBODY, steady(0.002), 1, 20.0, callers=callers)
    assert run.refused == []
    assert run.quantile(0.5) > 10 * 0.002


@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("times", [steady(0.02), spread(0.02)], ids=["steady", "spread"])
def test_nothing_is_refused_below_the_capacity(times: Times, share: float) -> None:
    assert simulate(poisson(lambda _: 800 * share), times, 16, 40.0).refused == []


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_calls_that_take_long_and_differ_much_are_not_refused(share: float) -> None:
    """The answers that come first are those that took least: what is usual must not be learnt from them."""
    assert simulate(poisson(lambda _: 32 * share), spread(2.0), 64, 200.0).refused == []


def test_slow_and_fast_methods_below_the_capacity() -> None:
    assert simulate(poisson(lambda _: 0.5 * 8 / 0.02975), mixed, 8, 100.0).refused == []


def test_methods_are_compared_with_themselves() -> None:
    """First only fast calls, then mostly slow ones of another method: no sign of overload."""

    def times(now: float, chance: Random) -> tuple[str, float]:
        return (SLOW, 0.2) if now > 20 and chance.random() < 0.8 else (PATH, 0.002)

    assert simulate(poisson(lambda _: 200.0), times, 1000, 60.0).refused == []


@pytest.mark.parametrize("rate", [3.0, 300.0])
def test_a_server_that_becomes_slower_for_good_is_used_as_before(rate: float) -> None:
    """Answers take ten times as long from then on, without any line: nothing is gained by refusing."""
    times: Times = lambda now, chance: (PATH, (0.01 if now < 20 else 0.1) * chance.uniform(0.8, 1.2))  # noqa: E731
    load = heapq.merge(poisson(lambda _: rate), bursts(100, 40.0, 80.0))
    assert simulate(load, times, 1000, 100.0).refused == []


@pytest.mark.parametrize("callers", [20, 200])
def test_a_server_that_stands_still_for_once(callers: int) -> None:
    """All that wait are late then, but what comes afterwards is not."""

    def times(now: float, chance: Random) -> tuple[str, float]:
        return PATH, 12.0 - now if 10 < now < 12 else 0.005 * chance.uniform(0.8, 1.2)

    assert simulate(NOBODY, times, 4, 20.0, callers=callers).refused == []


@pytest.mark.parametrize("left", [25, 50])
@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_a_server_that_nearly_halts_for_a_moment(left: int, seconds: float) -> None:
    """So few answers a second are not all that it can do: the line is worked off as soon as it goes on."""

    def times(now: float, chance: Random) -> tuple[str, float]:
        return PATH, (8 / left if 10 <= now < 10 + seconds else 0.005) * chance.uniform(0.8, 1.2)

    assert simulate(poisson(lambda _: 125), times, 8, 25.0).refused == []


# --- afterwards -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [20.0, 1e-9], ids=["some calls", "none"])
def test_after_the_load_bursts_are_taken_again(after: float) -> None:
    limiter = Concurrency(0.0)
    load = heapq.merge(poisson(lambda now: 1000.0 if now < 20 else after), bursts(150, 24.0))
    run = simulate(load, steady(0.02), 4, 40.0, limiter)
    assert any(at < 20 for at in run.refused)
    assert [at for at in run.refused if at > 22] == []
    assert limiter.limit >= BURST


def test_callers_who_come_again_as_told() -> None:
    """So few are refused by then that it could look like the end of the load."""
    run = simulate(NOBODY, steady(0.05), 2, 60.0, callers=100)
    assert run.refused
    assert run.rate(5.0, 60.0) >= 0.9 * 40
    assert run.quantile(0.99, 10.0) <= 3 * 0.06


# --- one by one -----------------------------------------------------------------------------------------------------


def line(limiter: Concurrency, late: int, now: float = 10.0) -> list[int]:
    """A line that stands, answered in time in one window and then late in others. Returns the marks of who waits."""
    marks = [limiter.asked() for _ in range(4 * SHORT)]
    for seconds in (0.01, *[0.5] * late):
        now += 0.2
        for _ in range(SAMPLES):
            marks.append(limiter.asked())
            limiter.answered(PATH, marks.pop(0), seconds, now)
    return marks


@pytest.mark.parametrize(("late", "judged"), [(0, False), (1, False), (2, True)])
def test_only_what_lasts_is_judged(late: int, judged: bool) -> None:
    limiter = Concurrency(0.0)
    line(limiter, late)
    assert (limiter.limit < BURST) is judged


def test_a_line_that_is_gone_is_forgotten_at_once() -> None:
    limiter = Concurrency(0.0)
    for mark in line(limiter, 5):
        assert limiter.limit == pytest.approx(BURST if limiter.waiting <= SHORT else SAMPLES / 0.2)
        limiter.left(PATH, mark, 0.0, 20.0, True)
    assert limiter.waiting == 0


def test_calls_that_never_end_do_not_keep_the_usual_from_being_learnt() -> None:
    limiter, now = Concurrency(0.0), 0.0
    stuck = limiter.asked()
    for _ in range(20):
        now += COHORT_S / 10
        limiter.answered(PATH, limiter.asked(), 0.01, now)
        limiter.look(now)
    limiter.left(PATH, stuck, now, now, False)
    assert limiter.waiting == 0
    line(limiter, 2, now)
    assert limiter.limit < BURST


@given(
    st.lists(
        st.tuples(st.sampled_from(("ask", "answer", "leave", "end", "look")), st.floats(0, 30), st.sampled_from("abc")),
        max_size=300,
    )
)
def test_whatever_happens_some_calls_are_taken_and_counts_return(steps: Sequence[tuple[str, float, str]]) -> None:
    limiter, now, open_calls = Concurrency(0.0), 0.0, list[int]()
    for step, seconds, path in steps:
        now += seconds / 10
        took = min(seconds, now)
        if step == "ask" and not limiter.full:
            open_calls.append(limiter.asked())
        elif step == "ask":
            limiter.refused()
        elif step == "look":
            limiter.look(now)
        elif open_calls and step == "answer":
            limiter.answered(path, open_calls.pop(0), took, now)
        elif open_calls:
            limiter.left(path, open_calls.pop(), took, now, step == "end")
        assert limiter.limit >= 1.0
        assert limiter.waiting == len(open_calls)


def hung(calls: int) -> Concurrency:
    """A limiter of a server that never answers so many calls."""
    limiter = Concurrency(0.0)
    for _ in range(calls):
        limiter.asked()
    return limiter


@pytest.mark.parametrize("calls", [3, 5, 30])
def test_calls_that_are_not_answered_shut_out_no_others_once_a_burst_has_passed(calls: int) -> None:
    def rate(now: float) -> float:
        return 20.0 if now < 100 else 1500.0 if now < 103 else 5.0

    run = simulate(poisson(rate), steady(0.01), 1, 400.0, hung(calls))
    assert any(refused < 110 for refused in run.refused)
    assert not any(refused > 160 for refused in run.refused)


@pytest.mark.parametrize("calls", [3, 200])
def test_they_shut_out_no_others_after_an_outage(calls: int) -> None:
    """For five seconds nothing is answered and callers give up, so that while the line stands no rate is known."""

    def times(now: float, chance: Random) -> tuple[str, float]:
        return PATH, (1e6 if 100 <= now < 105 else 0.01) * chance.uniform(0.8, 1.2)

    load = poisson(lambda now: 1000.0 if 100 <= now < 105 else 20.0)
    run = simulate(load, times, 10_000, 200.0, hung(calls), deadline=0.3)
    assert any(100 < refused < 105 for refused in run.refused)
    assert not any(refused > 110 for refused in run.refused)


@pytest.mark.parametrize("rate", [2.0, 5.0])
def test_however_many_they_are_a_method_that_becomes_slower_is_not_shut_out(rate: float) -> None:
    def times(now: float, chance: Random) -> tuple[str, float]:
        return PATH, (0.1 if 150 <= now < 160 else 0.01) * chance.uniform(0.8, 1.2)

    run = simulate(poisson(lambda _: rate), times, 100, 260.0, hung(900))
    assert not any(refused > 175 for refused in run.refused)


def test_they_shut_out_no_others_once_the_rate_of_answers_is_forgotten() -> None:
    """Ten minutes in which all that leaves has given up: what was answered before tells nothing any more."""
    limiter, now = Concurrency(0.0), 10.0
    marks = line(limiter, 2, now)
    for _ in range(3000):
        now += 0.2
        for _ in range(SAMPLES):
            while not limiter.full:
                marks.append(limiter.asked())
            limiter.refused()
            if len(marks) > 1:
                limiter.left(PATH, marks.pop(0), 0.15, now, False)
        limiter.look(now)
    while not limiter.full:
        limiter.asked()
    assert limiter.shedding
    for _ in range(int(COHORT_S)):
        now += 1.0
        limiter.look(now)
    assert not limiter.full


def test_a_call_that_is_not_answered_does_not_keep_load_from_being_shed() -> None:
    run = simulate(poisson(lambda _: 300.0), steady(0.01), 1, 58.0, hung(1))
    assert run.rate(20, 58) >= 90
    assert run.quantile(0.9, 20) <= 0.5


@pytest.mark.parametrize("seconds", [10.0, 30.0, 120.0])
@pytest.mark.parametrize("callers", [8, 30, 200])
def test_callers_of_a_long_method_make_no_line_once_a_burst_has_passed(callers: int, seconds: float) -> None:
    """They do not end within a dip. A thousand calls at once, on four places beside theirs, are 2.5 s of work."""
    load = heapq.merge(poisson(lambda _: 120.0), bursts(1000, 150.0, 160.0))
    run = simulate(load, steady(0.01), 4 + callers, 220.0, callers=callers, of_callers=steady(seconds, SLOW))
    answers = sorted(asked + took for asked, path, took in run.answered if path == PATH)
    assert any(150 < at < 152 for at in run.refused)
    assert max(later - at for at, later in pairwise([*answers, 220.0])) < 3.0
    assert sum(at > 165 for at in run.refused) < 3 * 120


@pytest.mark.parametrize("seconds", [10.0, 30.0, 120.0])
def test_overload_is_shed_beside_callers_of_a_long_method(seconds: float) -> None:
    load = poisson(lambda now: 80.0 if now < 150 else 1000.0)
    run = simulate(load, steady(0.02), 4 + 8, 260.0, callers=8, of_callers=steady(seconds, SLOW))
    assert run.rate(150.0, 260.0) >= 0.9 * 200
    assert run.quantile(0.99, 160.0) <= 3 * 0.024
