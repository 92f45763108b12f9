"""The audit file as evidence: every call, once, as the whole chain saw it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.harness.certificates import CLIENT
from bench.harness.errors import BenchError
from bench.harness.h2load import TRACE_ID
from bench.harness.payload import METHOD
from bench.harness.trail import FIELDS, Evidence, Trail

CALL = ("call.allowed", 0, CLIENT, METHOD, TRACE_ID)


def line(**other: object) -> str:
    return json.dumps(dict(zip(FIELDS, CALL, strict=True)) | other) + "\n"


def test_counts_each_call_once_as_the_file_grows(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    trail = Trail(file, Evidence())
    assert trail.calls() == 0
    file.write_text(line() + line(kind="connection.refused") + line()[:20])
    assert trail.calls() == 1
    with file.open("a") as stream:
        stream.write(line()[20:] + line())
    assert trail.calls() == 3


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "call.denied"}, {"status": 14}, {"principal": ""}, {"method": "/a.B/C"}, {"trace_id": ""},
        {"trace_id": "0" * 32},
    ],
)  # fmt: skip
def test_a_call_that_went_otherwise_voids_the_round(tmp_path: Path, other: dict[str, object]) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(line() + line(**other))
    with pytest.raises(BenchError, match="void: expected every call recorded"):
        Trail(file, Evidence()).calls()


def test_callers_that_vary_are_told_by_how_their_names_begin_and_traces_end(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    trail = Trail(file, Evidence(trace=TRACE_ID[16:]))
    file.write_text(line(trace_id="0" * 16 + TRACE_ID[16:], principal=CLIENT + "7"))
    assert trail.calls() == 1
