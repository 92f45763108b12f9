"""Which connection a call goes to: the one with the fewest calls, ties in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

FEW: Final = 8  # connections up to which all are compared


class Load(Protocol):
    @property
    def load(self) -> int:
        """Calls open on it, or -1 where it can take none."""


L = TypeVar("L", bound=Load)


def least(loads: Sequence[L], turn: int, chance: Callable[[], float]) -> L | None:
    """The one with the least load, or None where none takes a call.

    turn: where to begin, any number; one more each time spreads calls over equals.  chance: numbers in [0, 1).
    Of many the better of two at random, which is nearly as even as the best of all and costs as much however many
    there are (Mitzenmacher 2001, "The Power of Two Choices in Randomized Load Balancing").
    """
    if len(loads) > FEW:
        one, other = _two(loads, chance)
        if one.load >= 0 and other.load >= 0:
            return one if one.load <= other.load else other
    return _least_of_all(loads, turn)


def _two(loads: Sequence[L], chance: Callable[[], float]) -> tuple[L, L]:
    """Two different ones."""
    count = len(loads)
    first = int(chance() * count)
    return loads[first], loads[(first + 1 + int(chance() * (count - 1))) % count]


def _least_of_all(loads: Sequence[L], turn: int) -> L | None:
    best: L | None = None
    fewest = -1
    count = len(loads)
    for at in range(turn, turn + count):
        each = loads[at % count]
        load = each.load
        if load >= 0 and (best is None or load < fewest):
            best, fewest = each, load
    return best
