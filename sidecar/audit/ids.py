"""UUIDv7 names for events: ordered by time, unique without coordination. Source: RFC 9562, 5.7 and 6.2."""

from __future__ import annotations

from collections.abc import Callable

RANDOM_BITS = 74  # rand_a (12) and rand_b (62)
STEP_BITS = 32
LOW_MASK = (1 << 62) - 1


class Ids:
    """Strictly rising UUIDv7 texts, also while the clock stands still or runs backwards.

    bits: n -> n random bits as an int. Names need no secrecy, so a seeded generator will do.
    """

    __slots__ = ("_bits", "_high", "_ms", "_prefix", "_random")

    def __init__(self, bits: Callable[[int], int]) -> None:
        self._bits = bits
        self._ms = -1
        self._random = 0
        self._high = -1  # the first 64 bits of the last id, and how they are spelt
        self._prefix = ""

    def next(self, now: float) -> str:
        """now: Unix seconds, from 1970 to the year 10889."""
        ms = int(now * 1000)
        if ms > self._ms:
            self._ms = ms
            # RFC 9562 6.2: the leading bit of a counter starts at zero, as room to rise within a millisecond.
            self._random = self._bits(RANDOM_BITS - 1)
        else:
            # Method 2 (monotonic random): the random part rises by a random step.
            self._random += 1 + self._bits(STEP_BITS)
            if self._random >> RANDOM_BITS:
                self._ms += 1
                self._random = self._bits(RANDOM_BITS - 1)
        high = self._ms << 16 | 0x7000 | self._random >> 62
        if high != self._high:
            text = f"{high:016x}"
            self._high, self._prefix = high, f"{text[:8]}-{text[8:12]}-{text[12:]}-"
        low = f"{1 << 63 | self._random & LOW_MASK:016x}"
        return f"{self._prefix}{low[:4]}-{low[4:]}"
