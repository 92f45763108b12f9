"""A process's sign of life, four times a second: how late its event loop came, and what is so at this moment.

Gauges are looked at here, once a second, instead of being moved by what changes them: that costs the calls nothing,
and no gauge drifts.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
from sidecar.telemetry.layout import Labels
from sidecar.telemetry.metrics import LAG_BOUNDS, Metric

BEAT_S: Final = 0.25
_BEATS: Final = 4  # between two looks at the gauges
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = Path("/proc/self/statm")


Gauge: TypeAlias = tuple[Metric, Labels]

# CLOCK_BOOTTIME's seconds, which all processes of a host agree on.
boot_clock: Final[Callable[[], float]] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class Timer(Protocol):
    def cancel(self) -> None: ...


class Pulse:
    """later: as loop.call_later.  clock, boot_clock: seconds of CLOCK_MONOTONIC and CLOCK_BOOTTIME, not the loop's
    own, which stands still while it is late.  gauges: what each is now.  publish: run with every beat.
    """

    def __init__(
        self,
        board: Board,
        later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float],
        boot_clock: Callable[[], float],
        gauges: Mapping[Gauge, Callable[[], float]],
        publish: Callable[[], None],
    ) -> None:
        self._board = board
        self._later = later
        self._clock = clock
        self._boot_clock = boot_clock
        self._gauges = gauges
        self._publish = publish
        self._lag = board.cell(metrics.LAG_SECONDS)
        self._memory = board.cell(metrics.MEMORY)
        self._beats = 0
        self._due = 0.0
        self._timer: Timer | None = None

    def start(self) -> None:
        self._wait()
        self._look()

    def stop(self) -> None:
        """Publish what is left; the process is about to end."""
        if self._timer is not None:
            self._timer.cancel()
        self._publish()

    def _wait(self) -> None:
        self._due = self._clock() + BEAT_S
        self._timer = self._later(BEAT_S, self._beat)

    def _beat(self) -> None:
        lag = max(0.0, self._clock() - self._due)
        self._wait()  # first: what follows must not end it
        cells = self._board.cells
        cells[self._lag + bisect_left(LAG_BOUNDS, lag)] += 1.0
        cells[self._lag + len(LAG_BOUNDS) + 1] += lag
        self._beats += 1
        if self._beats % _BEATS == 0:
            self._look()
        self._publish()
        self._board.beat(self._boot_clock())

    def _look(self) -> None:
        self._board.beat(self._boot_clock())
        for (metric, labels), look in self._gauges.items():
            self._board.set(metric, look(), labels)
        self._board.cells[self._memory] = resident()


def resident() -> float:
    """Bytes of memory that this process holds (proc(5), statm)."""
    return float(_STATM.read_bytes().split()[1]) * _PAGE
