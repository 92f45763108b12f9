from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.relay.upstream.budget import RetryBudget


def test_the_reserve_then_a_share_of_the_calls() -> None:
    budget = RetryBudget(0.1, 2)
    assert [budget.spend(0) for _ in range(3)] == [True, True, False]
    assert [budget.spend(calls) for calls in (9, 10, 11, 40, 40, 40, 40)] == [
        False,
        True,
        False,
        True,
        True,
        False,
        False,
    ]
    assert (budget.spent, budget.refused) == (5, 5)


@given(st.floats(0, 1), st.integers(0, 20), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=60))
def test_retries_never_exceed_the_reserve_and_the_share(
    share: float, reserve: int, steps: list[tuple[int, int]]
) -> None:
    budget, calls, granted = RetryBudget(share, reserve), 0, 0
    for more, tries in steps:
        calls += more
        granted += sum(budget.spend(calls) for _ in range(tries))
        assert granted <= reserve + share * calls + 1e-6
    assert granted == budget.spent
