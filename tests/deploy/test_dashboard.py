"""The dashboard and the alert rules speak of metrics that there are, and leave none out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from typing import Any

import pytest

from sidecar.telemetry.metrics import TABLE
from tests.parts import require
from tests.processes import REPOSITORY

DASHBOARD = REPOSITORY / "deploy" / "grafana" / "langtrain-sidecar.json"
PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
KNOWN = {name for metric in TABLE for name in metric.series}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def spoken(text: str) -> set[str]:
    return set(re.findall(r"langtrain_sidecar_\w+", text))


def test_every_metric_that_is_spoken_of_exists() -> None:
    assert spoken(" ".join(expressions())) - KNOWN == set()
    assert spoken((PROMETHEUS / "alerts.yaml").read_text("utf-8")) - KNOWN == set()
    assert spoken((REPOSITORY / "tests" / "deploy" / "alerts_test.yaml").read_text("utf-8")) - KNOWN == set()


def test_the_dashboard_shows_every_metric() -> None:
    shown = spoken(" ".join(expressions()))
    assert [metric.name for metric in TABLE if not shown & set(metric.series)] == []


def test_labels_that_queries_group_by_are_the_metrics_own() -> None:
    for expression in expressions():
        labels = {"instance", "process", "le", *(label for metric in TABLE for label in metric.labels)}
        for group in re.findall(r"by \(([^)]*)\)", expression):
            assert {label.strip() for label in group.split(",")} <= labels


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in panels()]
    assert len({panel["id"] for panel in panels()}) == len(places)
    assert len({panel["title"] for panel in panels()}) == len(places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", "deploy/prometheus/alerts.yaml"],
        ["check", "config", "deploy/prometheus/prometheus.yaml"],
        ["test", "rules", "tests/deploy/alerts_test.yaml"],
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(arguments: list[str]) -> None:
    require(shutil.which("promtool") is not None, "promtool: apt-get install prometheus")
    checked = subprocess.run(["promtool", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
