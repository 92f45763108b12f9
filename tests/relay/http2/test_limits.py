"""Token buckets by a clock that a test turns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.relay.http2.limits import Budget, Rate


def test_a_burst_and_then_what_the_rate_gives() -> None:
    budget = Budget(Rate(2, 3))
    assert [budget.spend(100.0) for _ in range(5)] == [True, True, True, False, False]
    later = [budget.spend(now) for now in (100.4, 100.6, 100.9, 101.1)]
    assert later == [False, True, False, True]
    assert [budget.spend(1e6) for _ in range(4)] == [True, True, True, False]


def test_refused_tokens_cost_nothing() -> None:
    budget = Budget(Rate(1, 1))
    assert budget.spend(0.0)
    assert not any(budget.spend(number / 1000) for number in range(999))
    assert budget.spend(1.001)


@given(st.lists(st.floats(0, 10), max_size=60), st.integers(1, 5), st.floats(0.1, 10))
def test_no_more_than_the_burst_and_the_rate_allow(gaps: list[float], burst: int, rate: float) -> None:
    budget, now, spent = Budget(Rate(rate, burst)), 0.0, 0
    for gap in gaps:
        now += gap
        spent += budget.spend(now)
    assert spent <= burst + rate * now + 1e-6
