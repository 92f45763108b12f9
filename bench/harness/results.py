"""Figures as files of results have them, and the machine they depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


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


def _processor(cpuinfo: Path) -> str:
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
