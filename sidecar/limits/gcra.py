"""The generic cell rate algorithm: a bucket as one number, the time at which it will be full again.

Whole numbers throughout, so that every process reckons the same. Clocks and storage are not handled here.
Source: ITU-T I.371, annex A (virtual scheduling); the bucket is full where its time has passed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from interceptors.ledger import Bucket

UNITS: Final = 16  # of time, in a nanosecond
SECOND: Final = 1_000_000_000 * UNITS
DEEPEST: Final = 366 * 86400 * SECOND  # time in which every bucket refills; a 64-bit time reaches 17 years further


class Pace(NamedTuple):
    """A bucket in units of time. interval: for one to refill.  depth: for all of it."""

    interval: int
    depth: int


@lru_cache(maxsize=1024)
def pace(bucket: Bucket) -> Pace:
    """Rounded towards refilling slower, by less than one unit for each one refilled.

    Raises ValueError for a bucket that takes longer than DEEPEST to refill, or whose numbers are not above 0.
    """
    if min(bucket) < 1:
        raise ValueError(f"a bucket's numbers are above 0, got {tuple(bucket)}")
    interval = -(-bucket.period_s * SECOND // bucket.amount)
    if interval * bucket.burst > DEEPEST:
        raise ValueError(f"a bucket refills within {DEEPEST // SECOND} s, got {interval * bucket.burst // SECOND} s")
    return Pace(interval, interval * bucket.burst)


# The bucket's time after the charge; units until it can be made, 0 where it is now; whole ones in the bucket before it.
Spent: TypeAlias = tuple[int, int, int]


def spend(full_at: int, now: int, pace: Pace, cost: int) -> Spent:
    """What a charge of `cost` makes of a bucket. now, full_at: in units, of one clock.

    A time that is further off than an empty bucket's means an empty bucket.
    """
    interval, depth = pace
    empty = now + depth
    start = full_at if full_at > now else now
    if start > empty:
        start = empty
    after = start + cost * interval
    return after, after - empty if after > empty else 0, (empty - start) // interval
