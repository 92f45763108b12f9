"""The audit file as evidence: every call, once, as the whole chain saw it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.harness.errors import BenchError
from bench.harness.trail import CALL, FIELDS, Trail


def line(**other: object) -> str:
    return json.dumps(dict(zip(FIELDS, CALL, strict=True)) | other) + "\n"


def test_counts_each_call_once_as_the_file_grows(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    trail = Trail(file)
    assert trail.calls() == 0
    file.write_text(line() + line(kind="connection.refused") + line()[:20])
    assert trail.calls() == 1
    with file.open("a") as stream:
        stream.write(line()[20:] + line())
    assert trail.calls() == 3


@pytest.mark.parametrize(
    "other", [{"kind": "call.denied"}, {"status": 14}, {"principal": ""}, {"method": "/a.B/C"}, {"trace_id": ""}]
)
def test_a_call_that_went_otherwise_voids_the_round(tmp_path: Path, other: dict[str, object]) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(line() + line(**other))
    with pytest.raises(BenchError, match="void: expected every call recorded"):
        Trail(file).calls()
