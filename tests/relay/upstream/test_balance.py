from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.relay.upstream.balance import FEW, least


@dataclass(eq=False)
class Load:
    load: int  # calls; -1 takes none


def chosen(loads: list[int], turn: int = 0) -> int | None:
    found = [Load(load) for load in loads]
    best = least(found, turn, lambda: 0.0)
    return None if best is None else found.index(best)


@pytest.mark.parametrize(
    ("loads", "best"),
    [([], None), ([-1], None), ([-1, -1], None), ([3], 0), ([3, 2], 1), ([3, -1, 4], 0), ([0, 0, 0], 0)],
)
def test_the_fewest_of_a_few(loads: list[int], best: int | None) -> None:
    assert chosen(loads) == best


def test_equals_take_turns() -> None:
    assert [chosen([0, 0, 5, 0], turn) for turn in range(5)] == [0, 1, 3, 3, 0]


@given(st.lists(st.integers(-1, 50), max_size=40), st.integers(0, 1 << 40), st.randoms(use_true_random=False))
def test_one_that_takes_a_call_is_found_where_there_is_one(loads: list[int], turn: int, rng: Random) -> None:
    best = least([Load(load) for load in loads], turn, rng.random)
    if all(load < 0 for load in loads):
        assert best is None
    else:
        assert best is not None
        assert best.load >= 0
        if len(loads) <= FEW:
            assert best.load == min(load for load in loads if load >= 0)


@pytest.mark.parametrize("count", [2, FEW, 50])
def test_calls_that_stay_are_spread_evenly(count: int) -> None:
    """Of many, two choices keep the fullest within a few calls of the mean (Mitzenmacher 2001: log log n)."""
    loads, rng = [Load(0) for _ in range(count)], Random(7)
    for turn in range(20 * count):
        best = least(loads, turn, rng.random)
        assert best is not None
        best.load += 1
    spread = Counter(load.load for load in loads)
    assert max(spread) <= (20 if count <= FEW else 24)
