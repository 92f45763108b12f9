"""Medians, ratios, the table and the file of results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.harness import results
from bench.harness.h2load import Shape
from bench.harness.results import Result
from bench.harness.rounds import Comparison, Sample

RESULT = Result("CPU per call", 12.345, "us/call", "Envoy", 40.0, 0.3086, (0.25, 0.4), 0.01, 5, "make bench")


def samples(*cpu_us: float) -> tuple[Sample, ...]:
    return tuple(Sample(value, value / 1000, 1e6 / value) for value in cpu_us)


def test_a_comparison_is_by_medians_and_by_round() -> None:
    found = Comparison("ours", Shape(4, 8), 1000, samples(10, 30, 20), samples(40, 40, 50))
    assert (found.subject_us, found.peer_us) == (20, 40)
    assert found.ratios == pytest.approx((0.25, 0.75, 0.4))
    assert found.ratio == pytest.approx(0.4)
    assert found.waited == pytest.approx(0.05)


def test_the_file_says_how_each_figure_came_about(tmp_path: Path) -> None:
    file = tmp_path / "results" / "relay.json"
    results.write(file, "relay", {"load": "h2load"}, [RESULT])
    record = json.loads(file.read_text())
    assert record["bench"] == "relay"
    assert record["set_up"] == {"load": "h2load"}
    assert record["results"] == [
        {
            "metric": "CPU per call",
            "value": 12.35,
            "unit": "us/call",
            "peer": {"name": "Envoy", "value": 40.0},
            "ratio": 0.309,
            "spread": {"low": 0.25, "high": 0.4},
            "waited": 0.01,
            "rounds": 5,
            "command": "make bench",
        }
    ]


def test_the_table_aligns() -> None:
    head, row = results.table([RESULT]).splitlines()
    assert head.index("ratio") == row.index("0.31")
    assert row.index("40.0 (Envoy)") == head.index("peer")
