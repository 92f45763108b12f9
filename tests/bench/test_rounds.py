"""Ratios by round, the rows of the relay's bench, and the file of results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import relay
from bench.harness.errors import BenchError
from bench.harness.rounds import Rounds, Sample
from bench.relay import FIRST_ROWS, ROWS, Bar, record, table, write
from tests.processes import REPOSITORY

ROUNDS = Rounds(
    {
        "ours": tuple(Sample(cpu_us, 0.01, 1000.0, 150.0) for cpu_us in (10.0, 30.0, 20.0)),
        "theirs": tuple(Sample(cpu_us, 0.02, 2000.0, 200.0) for cpu_us in (40.0, 40.0, 50.0)),
        "no proxy": tuple(Sample(1.0, 0.0, 3000.0, 100.0) for _ in range(3)),
    }
)
ROW = relay.Row("a load", 1000, {}, (Bar("ours", "theirs", 0.3), Bar("ours", "theirs", 0.5, added=True)))


def test_ratios_are_by_round() -> None:
    assert ROUNDS.ratios("ours", "theirs") == pytest.approx((0.25, 0.75, 0.4))


def test_what_is_added_is_beside_no_proxy() -> None:
    assert ROUNDS.added("ours", "theirs", "no proxy") == pytest.approx((0.5, 0.5, 0.5))


def test_a_load_that_tells_no_times_has_none_to_compare() -> None:
    blind = Rounds({"ours": (Sample(1.0, 0.0, 1.0),)})
    with pytest.raises(BenchError, match="does not tell how long calls took"):
        blind.added("ours", "ours", "ours")


def test_a_row_says_which_bars_are_met_and_how_its_figures_came_about() -> None:
    told = record(ROW, ROUNDS, "make it")
    assert told["entries"]["ours"] == {
        "cpu_us": {"median": 20.0, "low": 10.0, "high": 30.0}, "calls_a_second": 1000, "waited": 0.01,
        "p50_us": {"median": 150.0, "low": 150.0, "high": 150.0},
    }  # fmt: skip
    missed, met = told["ratios"]
    assert missed == {
        "of": "ours", "to": "theirs", "what": "CPU time", "median": 0.4, "low": 0.25, "high": 0.75, "bar": 0.3,
        "met": False,
    }  # fmt: skip
    assert (met["what"], met["met"]) == ("p50 added", True)
    assert (told["rounds"], told["command"]) == (3, "make it")
    assert "bar 0.3: MISSED" in table("row", told)


def test_a_bar_against_a_proxy_that_was_left_out_is_not_judged() -> None:
    row = relay.Row("a load", 1000, {}, (Bar("ours", "another", 0.3),))
    assert record(row, ROUNDS, "make it")["ratios"] == []


def test_a_row_that_is_run_again_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "results" / "relay.json"
    for name, count in (("stream", 1), ("rules", 2), ("stream", 3)):
        write(file, name, {"rounds": count}, "compiled")
    assert json.loads(file.read_text())["rows"] == {"stream": {"rounds": 3}, "rules": {"rounds": 2}}


def test_every_bar_is_between_entries_of_its_row() -> None:
    for name, row in (ROWS | FIRST_ROWS).items():
        ours = [setup.title + suffix for setup in row.setups for suffix in row.loads]
        assert {bar.of for bar in row.bars if bar.most is not None} <= {*ours}, name


def test_make_names_rows_that_there_are() -> None:
    lines = (REPOSITORY / "Makefile").read_text().splitlines()
    (named,) = (line.partition("bench.relay ")[2].split() for line in lines if "bench.relay first" in line)
    assert set(named) == FIRST_ROWS.keys()
