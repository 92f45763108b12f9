"""The measure of the product document: which code is found, and that what did not run is not counted as run."""

from __future__ import annotations

import os

from bench.samples.__main__ import FAILED, RAN, SKIPPED, run, share
from bench.samples.document import Block, blocks, statements

DOCUMENT = """Overview

What it is.
Code Example
import math

math.sqrt(
    abs(-4)
)

Access & Such

It provides access. It is not Python.

Features:
- A: b
Code Example
x = 1
"""


def block(code: str) -> Block:
    return Block("", code, statements(code))


def outcomes(code: str) -> list[tuple[bool, tuple[str, ...]]]:
    return [(not each.error, each.calls) for each in run(block(code), {})]


def test_blocks_end_where_prose_begins() -> None:
    first, second = blocks(DOCUMENT)
    assert [first.title, second.title] == ["Overview", "Access & Such"]
    assert [(each.line, each.text, len(each.calls)) for each in first.statements] == [
        (1, "import math", 0),
        (3, "math.sqrt(", 2),
    ]
    assert {call.text for call in first.statements[1].calls} == {"math.sqrt", "abs"}
    assert second.code.strip() == "x = 1"


def test_a_failing_statement_keeps_none_after_it_from_running() -> None:
    assert outcomes("import langtrain.nothing\nlen([])\nnothing.at(len([]), all)\nlen(user_data)") == [
        (False, ()),
        (True, (RAN,)),
        (False, (FAILED, FAILED)),
        (True, (RAN,)),
    ]


def test_calls_before_the_one_that_fails_have_run() -> None:
    code = "int(str('x'))"
    assert outcomes(code) == [(False, (FAILED, RAN))]
    assert [call.text for call in block(code).statements[0].calls] == ["int", "str"]


def test_a_branch_not_taken_counts_neither_way() -> None:
    found = run(block("if bool(user_id):\n    len('')\nelse:\n    process_user_data(user_data)"), {})
    (only,) = found
    assert dict(zip([call.text for call in only.statement.calls], only.calls, strict=True)) == {
        "bool": RAN,
        "len": RAN,
        "process_user_data": SKIPPED,
    }
    assert share(found) == {"statements_ran": 1, "statements": 1, "calls_ran": 2, "calls": 2, "warned": 0}


def test_warnings_are_told() -> None:
    found = run(block("import warnings\nwarnings.warn('weak')\nprint('said')"), {})
    assert [each.warnings for each in found] == [(), ("UserWarning: weak",), ()]
    assert share(found)["warned"] == 1


def test_what_ends_its_process_has_not_run_and_nothing_after_it() -> None:
    found = run(block("len('')\nimport os\nos._exit(3)\nlen('')"), dict(os.environ))
    assert [each.error for each in found] == ["", "", *["its process ended with status 3"] * 2]
    assert [call for each in found for call in each.calls] == [RAN, FAILED, FAILED]


def test_an_exit_is_a_failure() -> None:
    assert outcomes("exit(0)\nlen('')") == [(False, (FAILED,)), (True, (RAN,))]
