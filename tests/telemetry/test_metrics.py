"""The table of metrics keeps to the conventions, and every metric has room and meaning."""

from __future__ import annotations

import re

import pytest

from sidecar.telemetry.metrics import TABLE, Kind, Merge, Metric


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.stem)
def test_a_metric_is_named_as_prometheus_advises(metric: Metric) -> None:
    assert re.fullmatch(r"langtrain_sidecar_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
    if metric.kind is Kind.HISTOGRAM:
        assert metric.name.endswith("_seconds")
        assert list(metric.bounds) == sorted(set(metric.bounds))
    assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.stem)
def test_a_metric_says_what_it_is_and_has_room_for_its_labels(metric: Metric) -> None:
    assert metric.help.endswith(".")
    if metric.kind is not Kind.INFO:
        assert bool(metric.labels) is (metric.rows > 0)
    assert metric.kind is Kind.GAUGE or metric.merge is Merge.SUM


def test_names_are_distinct() -> None:
    names = [name for metric in TABLE for name in metric.series]
    assert len(names) == len(set(names))
