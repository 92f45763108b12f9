"""Merged metrics as text: OpenMetrics 1.0 (prometheus.io/docs/specs/om) or Prometheus's text format 0.0.4.

They differ in what a counter's metadata and an info are called, and in how the text ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.telemetry.layout import Labels
from sidecar.telemetry.merge import Merged, Values
from sidecar.telemetry.metrics import Kind, Merge, Metric

OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
PROCESS: Final = "process"  # the label that Merge.EACH adds
UNITS: Final = ("seconds", "bytes")


def accepts_open_metrics(accept: str) -> bool:
    """Whether a scraper's Accept header names OpenMetrics; Prometheus does, and prefers it."""
    return "application/openmetrics-text" in accept


def render(values: Merged, open_metrics: bool) -> bytes:
    lines: list[str] = []
    for metric, rows in values.items():
        if rows:
            lines += _metadata(metric, open_metrics)
            for labels, row in rows.items():
                lines += _samples(metric, labels, row)
    if open_metrics:
        lines.append("# EOF")
    return "\n".join([*lines, ""]).encode()


def _metadata(metric: Metric, open_metrics: bool) -> Iterator[str]:
    family, kind = metric.name, metric.kind.value
    if open_metrics:
        family = family.removesuffix("_total").removesuffix("_info")
    elif metric.kind is Kind.INFO:
        kind = "gauge"
    yield f"# TYPE {family} {kind}"
    if open_metrics and family.endswith(UNITS):
        yield f"# UNIT {family} {family.rpartition('_')[2]}"
    yield f"# HELP {family} {_escaped(metric.help)}"


def _samples(metric: Metric, labels: Labels, row: Values) -> Iterator[str]:
    names = metric.labels if metric.merge is not Merge.EACH else (*metric.labels, PROCESS)
    pairs = [f'{name}="{_escaped(value)}"' for name, value in zip(names, labels, strict=True)]
    if metric.kind is not Kind.HISTOGRAM:
        yield f"{metric.name}{_braced(pairs)} {_number(row[0])}"
        return
    count = 0.0
    for bound, inside in zip((*map(_number, metric.bounds), "+Inf"), row[:-1], strict=True):
        count += inside
        within = f'le="{bound}"'
        yield f"{metric.name}_bucket{_braced([*pairs, within])} {_number(count)}"
    yield f"{metric.name}_count{_braced(pairs)} {_number(count)}"
    yield f"{metric.name}_sum{_braced(pairs)} {_number(row[-1])}"


def _braced(pairs: list[str]) -> str:
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _number(value: float) -> str:
    return repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
