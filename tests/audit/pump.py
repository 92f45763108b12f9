"""An event loop's thread for tests: what a recorder hands to it runs when the test pumps."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable


class Pump:
    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def call_soon(self, function: Callable[[], None]) -> None:
        self._calls.put(function)

    def until(self, condition: Callable[[], object], deadline_s: float = 20.0) -> None:
        """Run what comes in until `condition` holds; AssertionError after the deadline."""
        end = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            try:
                self._calls.get(timeout=0.01)()
            except queue.Empty:
                continue
