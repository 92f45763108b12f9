"""Conditions: what must exist before they are evaluated, and that nothing goes wrong but by an error."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from sidecar.policy import library
from sidecar.policy.conditions import FAILS, HOLDS, Condition, ConditionError, Outcome, Scope, condition
from sidecar.policy.syntax import LONGEST_VALUE, MOST_ELEMENTS
from tests.policy.expressions import CONDITIONS, USERS

USER: dict[str, Any] = {"clearance_level": 3, "location": "eu", "groups": ("a", "b"), "score": 0.5, "active": True}
DATASET: dict[str, Any] = {"classification_level": 2, "allowed_regions": ("eu", "us"), "owner": {"team": "a"}}
SCOPE = Scope({"user": USER, "resource": DATASET, "dataset": DATASET})
NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
MOVING: dict[str, dict[str, Any]] = {"request": {"size": 10}, "environment": {"time": NOON, "source": "10.0.0.7"}}


def outcome(text: str, moving: Mapping[str, Mapping[str, Any]] = MOVING) -> Outcome:
    return SCOPE.outcome(condition(text), moving)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("user.clearance_level >= dataset.classification_level", True),  # the product document's two, as written
        ("user.location in dataset.allowed_regions", True),
        ("user.clearance_level > 3", False),
        ("user.clearance_level == 3.0", True),
        ("user.groups.exists(g, g == dataset.owner.team)", True),
        ("size(user.groups) == 2 && user.groups[1] == 'b'", True),
        ("has(user.mfa)", False),
        ("has(user.mfa) && user.mfa", False),
        ("!has(user.mfa) || user.mfa", True),
        ("has(dataset.owner.team)", True),
        ("request.size < 100 && user.active", True),
        ("environment.time.getHours() == 12", True),
        ("environment.time < timestamp('2026-11-28T12:00:01Z')", True),
        ("environment.time.getDayOfWeek() in [1, 2, 3, 4, 5]", False),  # a Saturday
        ("environment.source.startsWith('10.') && user.location == 'eu'", True),
        ("resource.classification_level == 2", True),
    ],
)
def test_what_holds(text: str, holds: bool) -> None:
    assert outcome(text) == (HOLDS if holds else FAILS)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("user.mfa", ["user.mfa"]),
        ("user.mfa == true || true", ["user.mfa"]),
        ("true || user.mfa", ["user.mfa"]),
        ("false && user.mfa", ["user.mfa"]),
        ("user.zone in dataset.zones", ["dataset.zones", "user.zone"]),
        ("dataset.owner.name == 'x'", ["dataset.owner.name"]),
        ("user.location.city == 'x'", ["user.location.city"]),  # of a text
        ("has(user.address.city)", ["user.address"]),
        ("model.name == 'x'", ["model.name"]),
        ("request.tokens < 3", ["request.tokens"]),
    ],
)
def test_what_is_missing_is_not_evaluated(text: str, missing: list[str]) -> None:
    assert outcome(text) == Outcome(False, tuple(missing))


@pytest.mark.parametrize(
    "text",
    [
        "user.location > 3",
        "user.location",
        "user.clearance_level",
        "!user.clearance_level",
        "user.clearance_level / 0 == 1",
        "user.clearance_level + 9223372036854775807 > 0",
        "user.groups[7] == 'a'",
        "user.location.matches('[')",
        "timestamp(user.location) < environment.time",
        "'e' in user.location",
        "size(user.location) == 2",
        "size(user.active) == 2",
        "request.size.contains('x')",
        "user.groups.all(g, g > 1)",
    ],
)
def test_what_cannot_be_evaluated_is_an_error(text: str) -> None:
    found = outcome(text)
    assert not found.holds
    assert not found.missing
    assert found.error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user == 'x'", "expected an attribute of 'user', as in user.NAME"),
        ("caller.name == 'x'", "nothing is named 'caller', expected one of dataset, environment, model"),
        ("user.all(x, true)", "expected an attribute of 'user'"),
        ("user.groups.all(request, true)", "'request' cannot be a macro's variable"),
        ("model.a == dataset.b", "no resource is both"),
        ("user.a == ", "expected a value"),
        ("user.a == 18446744073709551616", "ValueError: Failed to parse"),
    ],
)
def test_what_is_no_condition(text: str, said: str) -> None:
    with pytest.raises(ConditionError) as refused:
        Condition(text)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x" * LONGEST_VALUE, "a text of 8192 characters"),
        (("x",) * (MOST_ELEMENTS + 1), "257 elements"),
        (("x" * 40,) * MOST_ELEMENTS, "texts of 12288 characters together"),
        (1 << 63, "a number of more than 64 bits"),
        ("\ud800", "surrogates not allowed"),
        (None, "a value of type NoneType"),
        (b"x", "a value of type bytes"),
        ([[[[["x"]]]]], "more than 4 lists and mappings"),
        ({1: "x"}, "names are no texts"),
    ],
)
def test_an_attribute_that_cannot_be_looked_at_is_an_error_and_not_missing(value: Any, said: str) -> None:
    """Or whoever may choose it would get past a policy that denies."""
    for scope, moving, root in (
        (Scope({"user": {"a": value, "b": 1}}), {}, "user"),
        (Scope({"user": {"b": 1}}), {"request": {"a": value}}, "request"),
    ):
        for text in (
            f"{root}.a == 'x'",
            f"has({root}.a)",
            f"has({root}.a) && {root}.a == 'x'",
            f"true || has({root}.a.b)",
        ):
            assert said in scope.outcome(condition(text), moving).error
        assert scope.outcome(condition("user.b == 1"), moving) == HOLDS  # it does not ask


def test_not_a_number_never_holds() -> None:
    scope = Scope({"user": {"a": math.nan}})
    for text in ("user.a > 1.0", "user.a <= 1.0", "user.a == user.a"):
        assert not scope.outcome(condition(text), {}).holds


def test_only_what_a_condition_names_is_looked_at_of_a_request() -> None:
    request: dict[str, Any] = {"size": 10, "body": object()}
    assert SCOPE.outcome(condition("request.size == 10"), {"request": request}) == HOLDS


def test_a_request_leaves_nothing_behind() -> None:
    asked = condition("has(request.size) && request.size == 10")
    for _ in range(2):
        assert SCOPE.outcome(asked, MOVING) == HOLDS
        assert SCOPE.outcome(asked, {}) == FAILS
        assert SCOPE.outcome(condition("request.size == 10 || environment.source == 'x'"), {}).missing


class Panicking:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def execute(self, context: object) -> object:
        raise self._error


@pytest.mark.parametrize("error", [RuntimeError("x"), BaseException("a panic"), RecursionError(), MemoryError()])
def test_a_panic_is_an_error(error: BaseException) -> None:
    asked = Condition("user.active")
    asked._program = Panicking(error)  # type: ignore[assignment]
    assert asked.evaluate(library.Context()).error.startswith(type(error).__name__)


@settings(max_examples=300, deadline=None)
@given(CONDITIONS, USERS)
def test_the_library_never_reads_what_we_did_not_see(text: str, user: dict[str, Any]) -> None:
    """Without anything that a condition names, and with anything of it absent, it is not evaluated."""
    asked = condition(text)
    for path in asked.reads:
        without = {name: value for name, value in user.items() if name != path[1]}
        assert ".".join(path) in Scope({"user": without}).outcome(asked, {}).missing
    only = {path[1]: user[path[1]] for path in asked.named if path[1] in user}
    assert Scope({"user": only}).outcome(asked, {}) == Scope({"user": user}).outcome(asked, {})


def test_the_librarys_command_line_is_not_loaded() -> None:
    code = "import sys, sidecar.policy.engine; sys.exit('typer' in sys.modules or 'prompt_toolkit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("root", ["request", "environment"])
def test_what_is_remembered_of_a_call_is_of_calls_that_say_the_same(root: str) -> None:
    scope = Scope({"user": {"size": 10}})
    texts = (
        f"{root}.a == 1",
        f"has({root}.a) && {root}.a == true",
        f"user.size > 9 && {root}.a == 'x'",
        f"1.0 / {root}.a > 0.0",
    )
    values: list[Any] = [1, True, 1.0, 0.0, -0.0, 0, "x", "1", "y" * 300, None, (1,), {"a": 1}]
    told: list[dict[str, dict[str, Any]]] = [
        {},
        {root: {}},
        *({root: {"a": value}} for value in values),
        {root: {"a": 1, "b": 2}},
    ]
    for text in texts:
        afresh = [Scope({"user": {"size": 10}}).outcome(condition(text), moving) for moving in told]
        for _ in range(2):
            assert [scope.outcome(condition(text), moving) for moving in told] == afresh


def test_what_is_remembered_of_calls_is_bounded() -> None:
    scope, asked = Scope({}), condition("request.size < 500")
    for size in range(1000):
        assert scope.outcome(asked, {"request": {"size": size}}) == (HOLDS if size < 500 else FAILS)
    assert len(scope._moved) <= 64


def test_the_time_is_asked_for_every_time() -> None:
    scope, asked = Scope({}), condition("environment.time < timestamp('2026-11-28T12:00:01Z') && request.size == 1")
    for second, holds in ((0, True), (1, False), (0, True)):
        moving: dict[str, dict[str, Any]] = {
            "request": {"size": 1}, "environment": {"time": NOON.replace(second=second)},
        }  # fmt: skip
        assert scope.outcome(asked, moving) == (HOLDS if holds else FAILS)
