"""Conformance tests of the CEL definition: all that apply to conditions pass, and the others are listed with a reason.

Files for protobuf messages, extensions, containers and the static type checker are not among the vectors: conditions
have none of these.
"""

from __future__ import annotations

import pytest

from sidecar.policy import library
from sidecar.policy.conditions import ConditionError, condition
from sidecar.policy.syntax import SyntaxFault, outline
from tests.policy.conformance import ERROR, EXCLUDED, Case, cases, same

CASES = {case.name: case for case in cases()}
REASONS = {name: reason for reason, group in EXCLUDED.items() for name in group["tests"]}
APPLICABLE = [case for case in CASES.values() if case.name not in REASONS]


def _value(case: Case) -> object:
    try:
        return library.compile(case.expression).execute(case.bindings)
    except Exception:
        return ERROR


def _excluded(reason: str) -> list[Case]:
    return [CASES[name] for name in EXCLUDED[reason]["tests"]]


def test_the_subset_is_what_it_is_said_to_be() -> None:
    assert len(CASES) == 1178
    assert len(APPLICABLE) == 757
    assert sum(len(group["tests"]) for group in EXCLUDED.values()) == len(REASONS) == 421
    assert all(group["reason"] for group in EXCLUDED.values())


@pytest.mark.parametrize("case", APPLICABLE, ids=lambda case: case.name)
def test_what_applies_passes(case: Case) -> None:
    outline(case.expression)
    value = _value(case)
    assert value is case.expected if case.expected is ERROR else same(value, case.expected)


@pytest.mark.parametrize("reason", [reason for reason, group in EXCLUDED.items() if "refused" in group])
def test_what_is_excluded_is_refused_by_its_text(reason: str) -> None:
    for case in _excluded(reason):
        with pytest.raises(SyntaxFault) as refused:
            outline(case.expression)
        assert any(said in str(refused.value) for said in EXCLUDED[reason]["refused"]), case.name


def test_names_that_there_are_not_are_refused() -> None:
    for case in _excluded("names"):
        with pytest.raises(ConditionError, match="nothing is named"):
            condition(case.expression)


def test_where_the_library_has_an_error_for_a_value_it_errs() -> None:
    for case in _excluded("errs"):
        assert case.expected is not ERROR
        assert _value(case) is ERROR, case.name


def test_where_the_library_has_a_value_for_an_error_it_is_the_right_one() -> None:
    days = {"sub_time_duration_over": 3652058, "sub_time_duration_under": -3652059}
    for case in _excluded("wider"):
        assert case.expected is ERROR
        assert getattr(_value(case), "days", None) == days[case.name.rpartition("/")[2]], case.name
