"""Calls of one kind counted in the worker's own memory: a third of the price of counting them on the board."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from sidecar.telemetry import metrics
from sidecar.telemetry.board import Board
from sidecar.telemetry.metrics import CALL_BOUNDS, CHAIN_BOUNDS, Metric

_CALL_BUCKETS: Final = len(CALL_BOUNDS) + 1
_CHAIN_BUCKETS: Final = len(CHAIN_BOUNDS) + 1
BY_METHOD: Final[tuple[Metric, ...]] = (
    metrics.CALL_SECONDS,
    metrics.CHAIN_SECONDS,
    metrics.UPSTREAM_SECONDS,
    metrics.FIRST_BYTE_SECONDS,
    metrics.REQUEST_BYTES,
    metrics.RESPONSE_BYTES,
    metrics.REQUEST_MESSAGES,
    metrics.RESPONSE_MESSAGES,
)


class Tally:
    """Calls of one method, status and decision since they were last published."""

    __slots__ = (
        "_calls_cell",
        "_cells",
        "_chain",
        "_chain_s",
        "_first",
        "_first_s",
        "_request_bytes",
        "_requests",
        "_response_bytes",
        "_responses",
        "_seconds",
        "_total",
        "_upstream",
        "_upstream_s",
    )

    def __init__(self, board: Board, method: str, code: str, decision: str) -> None:
        self._calls_cell = board.row_or_other(metrics.CALLS, (method, code, decision))
        self._cells = [board.row_or_other(metric, (method,)) for metric in BY_METHOD]
        self._begin()

    def _begin(self) -> None:
        self._total = [0] * _CALL_BUCKETS
        self._chain = [0] * _CHAIN_BUCKETS
        self._upstream = [0] * _CALL_BUCKETS
        self._first = [0] * _CALL_BUCKETS
        self._seconds = self._chain_s = self._upstream_s = self._first_s = 0.0
        self._request_bytes = self._response_bytes = self._requests = self._responses = 0

    def add(
        self,
        seconds: float,
        requests: int,
        responses: int,
        request_bytes: int,
        response_bytes: int,
        chain_s: float,
        upstream_s: float,
        first_byte_s: float,
    ) -> None:
        """As of the relay's Meter."""
        self._total[bisect_left(CALL_BOUNDS, seconds)] += 1
        self._seconds += seconds
        self._chain[bisect_left(CHAIN_BOUNDS, chain_s)] += 1
        self._chain_s += chain_s
        if upstream_s >= 0.0:
            self._upstream[bisect_left(CALL_BOUNDS, upstream_s)] += 1
            self._upstream_s += upstream_s
            if first_byte_s >= 0.0:
                self._first[bisect_left(CALL_BOUNDS, first_byte_s)] += 1
                self._first_s += first_byte_s
        self._requests += requests
        self._responses += responses
        self._request_bytes += request_bytes
        self._response_bytes += response_bytes

    def publish(self, board: Board) -> None:
        """Put what came since the last time onto the board."""
        calls = sum(self._total)
        if not calls:
            return
        board.cells[self._calls_cell] += calls
        total, chain, upstream, first, *sums = self._cells
        add(board, total, [*self._total, self._seconds])
        add(board, chain, [*self._chain, self._chain_s])
        add(board, upstream, [*self._upstream, self._upstream_s])
        add(board, first, [*self._first, self._first_s])
        counts = (self._request_bytes, self._response_bytes, self._requests, self._responses)
        for cell, count in zip(sums, counts, strict=True):
            board.cells[cell] += count
        self._begin()


def add(board: Board, cell: int, values: Sequence[float]) -> None:
    """Add to neighbouring numbers."""
    for index, value in enumerate(values, start=cell):
        if value:
            board.cells[index] += value
