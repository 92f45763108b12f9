"""Conditions beside cel-python, another implementation of the language: both say the same, or both err."""

from __future__ import annotations

import warnings
from typing import Any, Literal

from hypothesis import HealthCheck, given, settings

from sidecar.policy.conditions import Scope, condition
from tests.policy.expressions import CONDITIONS, USERS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import celpy
    from celpy.adapter import json_to_cel
    from celpy.celtypes import BoolType

ENVIRONMENT = celpy.Environment()


def _other(text: str, user: dict[str, Any]) -> bool | Literal["error"]:
    try:
        program = ENVIRONMENT.program(ENVIRONMENT.compile(text))
        result = program.evaluate({"user": json_to_cel(user)})
    except Exception:  # of several kinds
        return "error"
    return bool(result) if isinstance(result, BoolType) else "error"


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONDITIONS, USERS)
def test_beside_cel_python(text: str, user: dict[str, Any]) -> None:
    outcome = Scope({"user": user}).outcome(condition(text), {})
    assert not outcome.missing
    assert ("error" if outcome.error else outcome.holds) == _other(text, user)
