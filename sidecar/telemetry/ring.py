"""A bounded queue between two threads: the one that puts never waits, what finds no room is counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Ring(Generic[T]):
    """One thread puts, one takes. capacity: how many may wait."""

    __slots__ = ("_capacity", "_waiting", "dropped")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: deque[T] = deque()  # its extend and popleft are atomic
        self.dropped = 0  # written by the thread that puts

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, items: Sequence[T]) -> int:
        """How many found no room: the newest are dropped, so that what arrives stays a whole stretch."""
        room = max(0, self._capacity - len(self._waiting))
        self._waiting.extend(items[:room])
        dropped = max(0, len(items) - room)
        self.dropped += dropped
        return dropped

    def take(self, most: int) -> list[T]:
        """The oldest, at most `most`."""
        taken: list[T] = []
        while self._waiting and len(taken) < most:
            taken.append(self._waiting.popleft())
        return taken
