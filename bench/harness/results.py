"""Results: a JSON file that says how each figure came about, and a table for the terminal."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Result:
    """One figure beside its peer's.

    value, peer_value: in `unit`, medians of the rounds.  ratio: value to peer_value, the median of the rounds'.
    spread: the lowest and the highest ratio of any round.  waited: see `rounds.Sample`, the worst of all rounds.
    """

    metric: str
    value: float
    unit: str
    peer: str
    peer_value: float
    ratio: float
    spread: tuple[float, float]
    waited: float
    rounds: int
    command: str

    def record(self) -> dict[str, object]:
        return {
            "metric": self.metric,
            "value": round(self.value, 2),
            "unit": self.unit,
            "peer": {"name": self.peer, "value": round(self.peer_value, 2)},
            "ratio": round(self.ratio, 3),
            "spread": {"low": round(self.spread[0], 3), "high": round(self.spread[1], 3)},
            "waited": round(self.waited, 3),
            "rounds": self.rounds,
            "command": self.command,
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure without a peer: what was counted or timed, in `unit`.

    values: of each trial; of a count there is one.  bar: what the worst value may be at most.
    """

    metric: str
    unit: str
    values: Sequence[float]
    bar: float | None = None

    @property
    def met(self) -> bool:
        return self.bar is None or max(self.values) <= self.bar

    def record(self, command: str) -> dict[str, object]:
        made: dict[str, object] = {
            "metric": self.metric,
            "value": round(median(self.values), 3),
            "unit": self.unit,
            "spread": {"low": round(min(self.values), 3), "high": round(max(self.values), 3)},
            "trials": len(self.values),
        }
        if self.bar is not None:
            made |= {"bar": self.bar, "met": self.met}
        return {**made, "command": command}


def machine() -> dict[str, object]:
    """What the figures depend on: processor, cores in the machine, kernel and Python."""
    return {
        "processor": _processor(Path("/proc/cpuinfo")),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def write(file: Path, bench: str, set_up: Mapping[str, object], results: Sequence[Result]) -> None:
    """Write `results`, with the machine and how the bench was set up; folders are made."""
    record = {
        "bench": bench,
        "machine": machine(),
        "set_up": dict(set_up),
        "results": [result.record() for result in results],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=2) + "\n")


def table(results: Sequence[Result]) -> str:
    """The results as aligned text, one a line."""
    head = ("metric", "unit", "value", "peer", "ratio", "spread", "waited")
    rows = [
        (
            result.metric,
            result.unit,
            f"{result.value:.1f}",
            f"{result.peer_value:.1f} ({result.peer})",
            f"{result.ratio:.2f}",
            f"{result.spread[0]:.2f} to {result.spread[1]:.2f}",
            f"{result.waited:.0%}",
        )
        for result in results
    ]
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )


def _processor(cpuinfo: Path) -> str:
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
