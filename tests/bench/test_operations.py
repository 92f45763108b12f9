"""What counts as lost with a killed worker, and how figures are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.harness.callers import Failure
from bench.harness.results import Figure
from bench.operations.__main__ import write
from bench.operations.ends import OTHERS, OWN, WAITED, _fate

SEEN = {"dead": 9.9, "alive": 30.0}  # whose connection answered, and when last


def failure(by: str, at: float, detail: str = "Socket closed") -> Failure:
    return Failure("unary", "UNAVAILABLE", detail, at - 0.1, at, by)


@pytest.mark.parametrize(
    ("failed", "fate"),
    [
        (failure("dead", 10.1), OWN),
        (failure("alive", 10.1), OTHERS),  # the worker has answered since
        (failure("dead", 13.0), WAITED),  # long after the kill
        (failure("dead", 10.1, "failed to connect to all addresses"), WAITED),
        (failure("", 10.1), OWN),
        (failure("", 13.0), WAITED),
    ],
)
def test_with_whom_a_call_was_lost(failed: Failure, fate: str) -> None:
    assert _fate(failed, SEEN, [10.0]) is fate


def test_the_worst_value_meets_the_bar_or_does_not() -> None:
    assert Figure("m", "s", [0.1, 1.0], bar=1.0).met
    missed = Figure("m", "s", [0.1, 0.2, 1.5], bar=1.0).record("make it")
    assert missed == {
        "metric": "m", "value": 0.2, "unit": "s", "spread": {"low": 0.1, "high": 1.5}, "trials": 3, "bar": 1.0,
        "met": False, "command": "make it",
    }  # fmt: skip


def test_a_part_that_is_repeated_keeps_the_others(tmp_path: Path) -> None:
    file = tmp_path / "operations.json"
    for part, value in (("kills", 1), ("stops", 2), ("kills", 3)):
        write(file, part, [Figure(part, "calls", [value])], f"python -m bench.operations {part}")
    kept = json.loads(file.read_text())["results"]
    assert {part: [each["value"] for each in figures] for part, figures in kept.items()} == {"kills": [3], "stops": [2]}
