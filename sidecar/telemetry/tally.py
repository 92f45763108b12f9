"""Calls of one kind between two publications: noted one by one, and counted together, at half the price."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, TypeAlias

from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
from sidecar.telemetry.metrics import Metric

TIMES: Final[tuple[Metric, ...]] = (
    metrics.CALL_SECONDS,
    metrics.CHAIN_SECONDS,
    metrics.UPSTREAM_SECONDS,
    metrics.FIRST_BYTE_SECONDS,
)
COUNTS: Final[tuple[Metric, ...]] = (
    metrics.REQUEST_BYTES,
    metrics.RESPONSE_BYTES,
    metrics.REQUEST_MESSAGES,
    metrics.RESPONSE_MESSAGES,
)
# One call: its times in seconds, negative where there is none, then its counts.
Note: TypeAlias = tuple[float, float, float, float, int, int, int, int]


class Tally:
    """Calls of one method, status and decision since they were last published. add: takes one call's Note."""

    __slots__ = ("_calls", "_counts", "_notes", "_times", "add")

    def __init__(self, board: Board, method: str, code: str, decision: str) -> None:
        self._calls = board.row_or_other(metrics.CALLS, (method, code, decision))
        self._times = [(metric.bounds, board.row_or_other(metric, (method,))) for metric in TIMES]
        self._counts = [board.row_or_other(metric, (method,)) for metric in COUNTS]
        self._notes: list[Note] = []
        self.add = self._notes.append

    def publish(self, board: Board) -> None:
        """Put what came since the last time onto the board."""
        notes = self._notes
        if not notes:
            return
        cells = board.cells
        cells[self._calls] += len(notes)
        columns = list(zip(*notes, strict=True))
        for (bounds, cell), times in zip(self._times, columns, strict=False):
            for index, value in enumerate(observed(bounds, times), start=cell):
                if value:
                    cells[index] += value
        for cell, counts in zip(self._counts, columns[len(TIMES) :], strict=True):
            cells[cell] += sum(counts)
        notes.clear()


def observed(bounds: Sequence[float], times: Sequence[float]) -> list[float]:
    """A histogram's row of these: how many each bucket gets, +Inf's included, and their sum; without negative ones."""
    ordered = sorted(times)
    first = bisect_left(ordered, 0.0)
    below = [first, *[bisect_right(ordered, bound) for bound in bounds], len(ordered)]
    buckets = [upper - lower for lower, upper in itertools.pairwise(below)]
    return [*buckets, sum(ordered[first:])]
