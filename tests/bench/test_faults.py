"""What counts against a sidecar while those who decide are out of order."""

from __future__ import annotations

from contextlib import nullcontext

import grpc
import pytest

from bench.operations.faults import Fault, Honest, Trial, _figures

CODE = grpc.StatusCode
SINCE = 100.0
HARMLESS, SEVERS, TELLS = (Fault(nullcontext, *kind) for kind in ((), (True,), (False, True)))


@pytest.mark.parametrize(
    ("title", "fault", "after", "code", "counted"),
    [
        ("key", SEVERS, 2.0, CODE.OK, ""),
        ("key", SEVERS, 5.9, CODE.OK, ""),
        ("key", SEVERS, 6.1, CODE.OK, "late"),
        ("key", HARMLESS, 6.1, CODE.OK, ""),
        ("key", TELLS, 6.1, CODE.OK, ""),
        ("key", SEVERS, 2.0, CODE.UNAVAILABLE, "early"),
        ("key", HARMLESS, 2.0, CODE.UNAVAILABLE, "early"),
        ("key", None, 6.0, CODE.UNAVAILABLE, "early"),
        ("key", TELLS, 0.1, CODE.UNAVAILABLE, ""),
        ("key", SEVERS, 3.1, CODE.UNAVAILABLE, ""),
        ("key", SEVERS, 6.0, CODE.UNAUTHENTICATED, "otherwise"),
        ("token", TELLS, 6.0, CODE.UNAUTHENTICATED, "otherwise"),
        ("key", TELLS, 6.0, CODE.PERMISSION_DENIED, "otherwise"),
        ("grant", TELLS, 6.0, CODE.PERMISSION_DENIED, ""),
        ("grant", SEVERS, 6.0, CODE.PERMISSION_DENIED, "otherwise"),
        ("grant", None, 6.0, CODE.PERMISSION_DENIED, "otherwise"),
    ],
)
def test_a_call_of_an_honest_caller(title: str, fault: Fault | None, after: float, code: CODE, counted: str) -> None:
    honest = Honest({})
    trial = None if fault is None else Trial(fault, SINCE)
    honest.judge(title, trial, SINCE + after, code, SINCE + after)
    found = {"early": honest.early, "late": honest.late, "otherwise": honest.otherwise.total()}
    assert found == {name: int(name == counted) for name in found}
    missed = [figure.metric for figure in _figures("it", 1, 10, 0, honest, fault or HARMLESS) if not figure.met]
    assert len(missed) == bool(counted)


def test_who_is_let_in_once_it_is_over_is_not_late() -> None:
    honest = Honest({})
    honest.judge("key", Trial(SEVERS, SINCE, over=True), SINCE + 9, CODE.OK, SINCE + 9)
    assert honest.late == 0


def test_one_intruder_who_gets_in_is_enough() -> None:
    missed = [figure.metric for figure in _figures("it", 1, 10, 1, Honest({}), HARMLESS) if not figure.met]
    assert missed == ["it, 1 times: those that reached the model server"]
