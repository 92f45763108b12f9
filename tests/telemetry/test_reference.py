"""docs/metrics.md is what the table says."""

from __future__ import annotations

from sidecar.telemetry.metrics import TABLE
from sidecar.telemetry.reference import markdown
from tests.processes import REPOSITORY


def test_the_page_is_fresh() -> None:
    assert (REPOSITORY / "docs" / "metrics.md").read_text("utf-8") == markdown(), "run: make docs"


def test_every_metric_has_its_row() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| `langtrain_sidecar_")]
    assert len(rows) == len(TABLE)
    assert all(line.count("|") == 7 for line in rows)
