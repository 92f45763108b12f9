"""All children switch, or none."""

from __future__ import annotations

from sidecar.processes.switch import Switch, Verdict

FAULT = ["listen.tls.key", "does not belong to the certificate"]


def switch() -> Switch:
    return Switch(7, ["a", "b"], deadline=10.0)


def test_all_have_prepared() -> None:
    each = switch()
    assert each.prepared("a", 7, []) is Verdict.PREPARING
    assert each.prepared("b", 7, []) is Verdict.COMMITTED


def test_one_cannot() -> None:
    each = switch()
    assert each.prepared("a", 7, [FAULT]) is Verdict.ABANDONED
    assert each.prepared("b", 7, [FAULT]) is Verdict.ABANDONED
    assert each.faults == [FAULT]


def test_an_answer_about_another_generation_says_nothing() -> None:
    each = switch()
    each.prepared("a", 7, [])
    assert each.prepared("b", 6, []) is Verdict.PREPARING


def test_one_that_ends_is_not_waited_for() -> None:
    each = switch()
    each.prepared("a", 7, [])
    assert each.gone("b") is Verdict.COMMITTED


def test_out_of_time() -> None:
    each = switch()
    each.prepared("a", 7, [])
    assert each.tick(9.9) is Verdict.PREPARING
    assert each.tick(10.0) is Verdict.ABANDONED
    assert each.faults == [["", "no answer in time from b"]]
    assert each.prepared("b", 7, []) is Verdict.ABANDONED


def test_nobody_to_ask() -> None:
    assert Switch(1, [], 1.0).verdict is Verdict.COMMITTED
