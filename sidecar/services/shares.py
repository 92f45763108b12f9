"""How many streams are open, in all and of each caller: a stream holds a thread for as long as it lasts."""

from __future__ import annotations

import threading
from collections import Counter

from sidecar.internal.mac import Caller
from sidecar.services.errors import BusyError


class Shares:
    """each: at most, of one caller.  total: at most."""

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._lock = threading.Lock()
        self._open: Counter[tuple[str, str]] = Counter()

    def take(self, caller: Caller) -> None:
        """Count one more. Raises BusyError."""
        owner = caller.tenant, caller.name
        with self._lock:
            if self._open.total() >= self._total or self._open[owner] >= self._each:
                raise BusyError(f"{self._open[owner]} streams of {caller.name!r} are open, {self._open.total()} in all")
            self._open[owner] += 1

    def give(self, caller: Caller) -> None:
        """Count one less."""
        owner = caller.tenant, caller.name
        with self._lock:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]
