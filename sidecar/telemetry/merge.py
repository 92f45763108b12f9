"""What all processes of a sidecar say together: counters and histograms add up, gauges as the table says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from sidecar.telemetry.board import BoardView
from sidecar.telemetry.layout import Labels
from sidecar.telemetry.metrics import TABLE, Kind, Merge, Metric

ALIVE_S: Final = 10.0  # a process whose event loop has not been heard of for so long counts as dead
Values: TypeAlias = tuple[float, ...]
Merged: TypeAlias = dict[Metric, dict[Labels, Values]]  # the labels of Merge.EACH end with the process


@dataclass(frozen=True, slots=True)
class Process:
    """A place of one process of the sidecar, and the boards that may be written there. name: such as "worker-0"."""

    name: str
    boards: tuple[BoardView, ...]

    def alive(self, now: float) -> bool:
        """Whether any board is beating. now: CLOCK_BOOTTIME seconds."""
        return any(beats(board, now) for board in self.boards)


def beats(board: BoardView, now: float) -> bool:
    return now - board.beat() < ALIVE_S


def merged(processes: Iterable[Process], now: float) -> Merged:
    """Every metric of the table, in its order; the gauges of dead processes are left out. now: as of `alive`."""
    found: Merged = {metric: {} for metric in TABLE}
    written = ((process.name, board) for process in processes for board in process.boards)
    for name, board in written:
        alive = beats(board, now)
        for metric, labels, values in board.rows():
            if not alive and metric.kind in (Kind.GAUGE, Kind.INFO):
                continue
            if metric.merge is Merge.EACH:
                labels = (*labels, name)
            rows = found[metric]
            earlier = rows.get(labels)
            rows[labels] = values if earlier is None else _one(metric, earlier, values)
    return found


def gauge(values: Mapping[Metric, Mapping[Labels, Values]], metric: Metric) -> dict[Labels, float]:
    """The rows of a metric whose rows are one number each."""
    return {labels: row[0] for labels, row in values.get(metric, {}).items()}


def _one(metric: Metric, first: Values, second: Values) -> Values:
    if metric.kind is Kind.INFO:
        return first
    if metric.merge is Merge.MIN:
        return (min(first[0], second[0]),)
    if metric.merge is Merge.MAX:
        return (max(first[0], second[0]),)
    return tuple([one + other for one, other in zip(first, second, strict=True)])
