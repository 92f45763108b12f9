"""Boards of tests, and what a scraper reads off them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from sidecar.telemetry.board import Board, BoardView
from sidecar.telemetry.exposition import render
from sidecar.telemetry.layout import Labels
from sidecar.telemetry.merge import Process, merged
from sidecar.telemetry.metrics import PREFIX, Metric


@dataclass
class Slot:
    """A worker's place: its board's file stays when the worker goes."""

    fd: int

    def taken(self) -> Board:
        """As a worker that starts takes it."""
        board = Board(self.fd)
        board.beat(100.0)
        return board

    def process(self, name: str = "worker-0") -> Process:
        return Process(name, (BoardView(self.fd),))


def slot() -> Slot:
    return Slot(os.memfd_create("board"))


def rows(slot: Slot, metric: Metric) -> dict[Labels, tuple[float, ...]]:
    return {labels: values for each, labels, values in BoardView(slot.fd).rows() if each is metric}


def number(slot: Slot, metric: Metric, labels: Labels = ()) -> float:
    return rows(slot, metric).get(labels, (0.0,))[0]


def scraped(*slots: Slot, now: float = 100.0) -> dict[str, float]:
    """Samples by name and labels, such as `calls_total{method="a"}`, the prefix left out."""
    processes = [slot.process(f"worker-{number}") for number, slot in enumerate(slots)]
    return samples(render(merged(processes, now), True))


def samples(text: bytes) -> dict[str, float]:
    found = {}
    for family in open_metrics(text.decode()):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            pairs = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[sample.name.removeprefix(PREFIX) + (f"{{{pairs}}}" if pairs else "")] = sample.value
    return found
