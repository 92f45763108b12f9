"""Buckets, beside a bucket of exact fractions that is filled and emptied in the plainest way."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.ledger import Bucket
from sidecar.limits.gcra import DEEPEST, SECOND, pace, spend

DAY = 86400
BUCKETS = st.builds(Bucket, st.integers(1, 10**6), st.sampled_from((1, 60, 3600, DAY)), st.integers(1, 300))
# Steps of time from nothing to a few days, and costs that are mostly small.
STEPS = st.lists(
    st.tuples(st.integers(0, 1 << 20) | st.integers(0, 3 * DAY * SECOND), st.integers(1, 400)), max_size=60
)


class Oracle:
    """Tokens as a fraction: one for each interval that passes, never more than burst."""

    def __init__(self, burst: int, interval: int) -> None:
        self.burst, self.interval = burst, interval
        self.tokens = Fraction(burst)

    def take(self, passed: int, cost: int) -> bool:
        self.tokens = min(Fraction(self.burst), self.tokens + Fraction(passed, self.interval))
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True


@given(BUCKETS, STEPS)
def test_it_decides_as_a_bucket_of_fractions_does(bucket: Bucket, steps: list[tuple[int, int]]) -> None:
    paced = pace(bucket)
    oracle = Oracle(bucket.burst, paced.interval)
    now = full_at = 0
    for passed, cost in steps:
        now += passed
        after, wait, remaining = spend(full_at, now, paced, cost)
        allowed = oracle.take(passed, cost)
        assert (wait == 0) == allowed
        assert remaining == int(oracle.tokens + (cost if allowed else 0))
        if allowed:
            full_at = after


@given(BUCKETS, STEPS)
def test_never_more_than_the_burst_and_what_the_rate_gave(bucket: Bucket, steps: list[tuple[int, int]]) -> None:
    paced = pace(bucket)
    now = full_at = granted = 0
    for passed, cost in steps:
        now += passed
        after, wait, _ = spend(full_at, now, paced, cost)
        if not wait:
            full_at, granted = after, granted + cost
        assert granted <= bucket.burst + Fraction(now * bucket.amount, bucket.period_s * SECOND)


@given(BUCKETS, st.integers(0, 1 << 60), st.integers(0, 1 << 60), st.integers(1, 300))
def test_after_the_wait_it_is_allowed_and_not_before(bucket: Bucket, full_at: int, now: int, cost: int) -> None:
    paced = pace(bucket)
    wait = spend(full_at, now, paced, cost)[1]
    if wait and cost <= bucket.burst:
        kept = min(full_at, now + paced.depth)  # what a time too far off means
        assert spend(kept, now + wait, paced, cost)[1] == 0
        assert spend(kept, now + wait - 1, paced, cost)[1] == 1


def test_a_day_of_a_hundred() -> None:
    paced = pace(Bucket(100, DAY, 100))
    full_at = 0
    for _ in range(100):
        full_at = spend(full_at, 0, paced, 1)[0]
    assert spend(full_at, 0, paced, 1)[1:] == (864 * SECOND, 0)


@pytest.mark.parametrize("bucket", [Bucket(0, 1, 1), Bucket(1, 0, 1), Bucket(1, 1, 0), Bucket(1, 1, -1)])
def test_a_bucket_of_nothing_is_none(bucket: Bucket) -> None:
    with pytest.raises(ValueError, match="above 0"):
        pace(bucket)


def test_a_bucket_that_refills_after_more_than_a_year_is_refused() -> None:
    assert pace(Bucket(1, DAY, 366)).depth == DEEPEST
    with pytest.raises(ValueError, match="refills within 31622400 s, got 31708800 s"):
        pace(Bucket(1, DAY, 367))
