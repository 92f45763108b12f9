"""docs/performance.md quotes the file of results, and nothing else."""

from __future__ import annotations

from bench.performance import BEGIN, DOCUMENT, END, read, rewritten, tables

RATIO = {"of": "ours", "to": "theirs", "what": "CPU time", "median": 0.5, "low": 0.25, "high": 0.75}
ENTRY = {"cpu_us": {"median": 20.0, "low": 10.0, "high": 30.0}, "waited": 0.01}
TOLD = {
    "machine": {"processor": "one", "cores": 2, "kernel": "6", "python": "3.11"},
    "set_up": {"build": "compiled"},
    "rows": {
        "row": {
            "load": "a load", "rounds": 5, "command": "make it", "entries": {"ours": ENTRY},
            "ratios": [RATIO, RATIO | {"bar": 0.6, "met": True}, RATIO | {"bar": 0.4, "met": False}],
        }
    },
}  # fmt: skip


def test_the_document_is_what_the_results_say() -> None:
    document = DOCUMENT.read_text("utf-8")
    assert document.count(BEGIN) == document.count(END) == 1
    assert rewritten(document, read()) == document


def test_a_bar_is_reached_missed_or_not_there() -> None:
    lines = tables(TOLD).splitlines()
    verdicts = [line.split("|")[-2].strip() for line in lines if line.startswith("| a load")]
    assert verdicts == ["", "reached", "**missed**"]
    assert "| ours | 20.0 (10.0 to 30.0) |  | 1% |" in lines


def test_only_the_tables_are_written_anew() -> None:
    assert rewritten(f"above\n{BEGIN}old\n{END}below\n", TOLD) == f"above\n{BEGIN}\n{tables(TOLD)}\n{END}below\n"
