"""Connections that several threads make to one database, which may be away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from sidecar.state.database import Connection
from sidecar.state.ports import LostError, StateError

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


class Reaching:
    """connect: raises StateError.  clock: seconds.

    After it has failed nobody tries for a while, which is longer each time: whoever comes is told what the last one
    found. A server is not to be stormed by all threads of all its sidecars, least of all with a wrong password.
    """

    def __init__(self, connect: Callable[[], Connection], clock: Callable[[], float] = monotonic) -> None:
        self._connect = connect
        self._clock = clock
        self._lock = threading.Lock()
        self._pause_s = FIRST_PAUSE_S
        self._due = 0.0
        self._fault = ""

    def connect(self) -> Connection:
        """One thread at a time. Raises StateError."""
        with self._lock:
            if self._fault and self._clock() < self._due:
                raise LostError(self._fault)
            try:
                connection = self._connect()
            except StateError as error:
                self._fault, self._due = str(error), self._clock() + self._pause_s
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                raise
            self._fault, self._pause_s = "", FIRST_PAUSE_S
            return connection
