"""Deadlines of many calls behind one timer: a wheel of slots, since nearly all calls end before theirs."""

from __future__ import annotations

import asyncio
import heapq
from typing import Final, Protocol

from sidecar.logs import Log

_SLOTS_A_SECOND: Final = 100
_STALE: Final = 4096  # slots already gone that may stay in the order
_log = Log("deadlines")


class Expires(Protocol):
    def expire(self) -> None: ...


class Deadlines:
    """Calls `expire` of what was added, at most a slot (10 ms) late. Times are the loop's clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Expires]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0

    def add(self, at: float, item: Expires) -> int:
        """Returns the slot that `drop` wants."""
        slot = int(at * _SLOTS_A_SECOND) + 1
        found = self._slots.get(slot)
        if found is None:
            self._slots[slot] = {item}
            heapq.heappush(self._order, slot)
            if self._timer is None or slot < self._due:
                self._arm(slot)
        else:
            found.add(item)
        return slot

    def drop(self, slot: int, item: Expires) -> None:
        found = self._slots.get(slot)
        if found is not None:
            found.discard(item)
            if not found:
                del self._slots[slot]  # far deadlines of calls long over must not pile up
                if len(self._order) > 2 * len(self._slots) + _STALE:
                    self._order = sorted(self._slots)  # a heap too, without the slots that are gone

    def _arm(self, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = slot
        self._timer = self._loop.call_at(slot / _SLOTS_A_SECOND, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time() * _SLOTS_A_SECOND
        while self._order and self._order[0] <= now:
            for item in self._slots.pop(heapq.heappop(self._order), ()):
                try:
                    item.expire()
                except Exception as error:
                    # A defect of ours in one call: the others' deadlines hold all the same.
                    _log.error("relay_defect", error)
        if self._order and self._timer is None:
            self._arm(self._order[0])
