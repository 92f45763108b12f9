"""UUIDv7 names for events: ordered by time, unique without coordination. Source: RFC 9562, 5.7 and 6.2."""

from __future__ import annotations

from collections.abc import Callable

HIGH_BITS, LOW_BITS = 12, 62  # rand_a and rand_b
STEP_BITS = 32
VARIANT = 1 << 63


class Ids:
    """Strictly rising UUIDv7 texts, also while the clock stands still or runs backwards.

    bits: n -> n random bits as an int. Names need no secrecy, so a seeded generator will do.
    """

    __slots__ = ("_bits", "_high", "_low", "_ms", "_prefix")

    def __init__(self, bits: Callable[[int], int]) -> None:
        self._bits = bits
        self._ms = -1
        self._high = 0  # rand_a
        self._low = 0  # rand_b
        self._prefix = ""  # how all before rand_b is spelt

    def next(self, now: float) -> str:
        """now: Unix seconds, from 1970 to the year 10889."""
        ms = int(now * 1000)
        if ms > self._ms:
            self._begin(ms)
        else:
            # Method 2 (monotonic random): the random part rises by a random step.
            self._low += 1 + self._bits(STEP_BITS)
            if self._low >> LOW_BITS:
                self._carry()
        low = f"{VARIANT | self._low:016x}"
        return f"{self._prefix}{low[:4]}-{low[4:]}"

    def _begin(self, ms: int) -> None:
        self._ms = ms
        # RFC 9562 6.2: the leading bit of a counter starts at zero, as room to rise within a millisecond.
        random = self._bits(HIGH_BITS + LOW_BITS - 1)
        self._high, self._low = random >> LOW_BITS, random & (1 << LOW_BITS) - 1
        self._spell()

    def _carry(self) -> None:
        self._low &= (1 << LOW_BITS) - 1
        self._high += 1
        if self._high >> HIGH_BITS:
            self._begin(self._ms + 1)
        else:
            self._spell()

    def _spell(self) -> None:
        text = f"{self._ms << 16 | 0x7000 | self._high:016x}"
        self._prefix = f"{text[:8]}-{text[8:12]}-{text[12:]}-"
