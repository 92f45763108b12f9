"""docs/metrics.md, written from the table: `python -m sidecar.telemetry.reference`."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.telemetry.metrics import TABLE, Kind, Merge, Metric

HEAD = """\
# Metrics

Written by `make docs` from `sidecar/telemetry/metrics.py`, which is their only source. `/metrics` of the probe
listener serves them for all processes of a sidecar together, as OpenMetrics or in Prometheus's text format, whichever
the scraper asks for; [telemetry](telemetry.md) says how they come about.

- Label values are bounded: each process has the number of rows given here, and what comes after them is counted under
  the label value `other` and in `langtrain_sidecar_label_overflows_total`. A method has rows of its own once its shape
  is known or the model server has answered it with OK, for callers choose method names.
- Totals survive a restart of any process of the sidecar, and begin at 0 with the sidecar itself.
- Gauges are looked at once a second. Those of a process that has given no sign of life for 10 seconds are left out.

| metric | kind | labels | rows | workers together | meaning |
| --- | --- | --- | ---: | --- | --- |
"""


def markdown() -> str:
    """Every metric of the table, in its order."""
    return HEAD + "\n".join([*map(_row, TABLE), "", *_buckets(), ""])


def _row(metric: Metric) -> str:
    labels = [f"`{label}`" for label in metric.labels]
    if metric.merge is Merge.EACH:
        labels.append("`process`")
    together = {Merge.SUM: "sum", Merge.MIN: "least", Merge.MAX: "most", Merge.EACH: "each by itself"}[metric.merge]
    rows = str(metric.rows) if metric.rows else ""
    if metric.kind is Kind.INFO:
        together = "each that differs"
    cells = (f"`{metric.name}`", metric.kind.value, ", ".join(labels), rows, together, metric.help)
    return "| " + " | ".join(cells) + " |"


def _buckets() -> Iterator[str]:
    yield "Upper bounds of the histograms' buckets, in seconds:\n"
    for metric in TABLE:
        if metric.kind is Kind.HISTOGRAM:
            yield f"- `{metric.name}`: {', '.join(f'{bound:g}' for bound in metric.bounds)}"


if __name__ == "__main__":
    print(markdown(), end="")
