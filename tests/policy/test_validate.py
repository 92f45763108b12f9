"""Faults of roles, groups, grants and policies: all at once, each with its field, what was expected and what came."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from interceptors.contract import Code
from sidecar.policy.model import Grant, Group, Item, Policy, Role
from sidecar.policy.validate import MOST_PAIRS, PolicyError, breadth, check, excesses

ROLE = Role("ml", ("models.*",))
GROUP = Group("team", ("user:okta/*",))
BINDING = Grant("b1", ("group:team", "spiffe://example.org/a"), "builtin.admin", ("models/*",))
POLICY = Policy("p", "allow", "user.a == 1", ("models.*",), ("models/*",), obligations=frozenset({"redact:pii"}))


@pytest.mark.parametrize("item", [ROLE, GROUP, BINDING, POLICY, Policy("p", "deny"), Role("admin", ("*",))])
def test_what_is_sound(item: Item) -> None:
    check(item)


@pytest.mark.parametrize(
    ("item", "change", "fault"),
    [
        (ROLE, {"name": "builtin.mine"}, "name: names that begin with 'builtin.' are reserved, got 'builtin.mine'"),
        (
            ROLE,
            {"name": "a b"},
            "name: expected 1 to 128 letters, digits, '_', '.' or '-', a letter or digit first, got 'a b'",
        ),
        (ROLE, {"permissions": ()}, "permissions: expected 1 to 1024, got 0"),
        (
            ROLE,
            {"permissions": ("models.read", "models")},
            "permissions[1]: expected a permission such as models.inference, models.* for all below, or * for all, got",
        ),
        (ROLE, {"tenant": "a/b"}, "tenant: expected 1 to 128 letters"),
        (GROUP, {"members": ("alice",)}, "members[0]: expected spiffe://… or dns:…"),
        (GROUP, {"members": ("group:other",)}, "members[0]: expected spiffe://… or dns:…"),
        (GROUP, {"members": ()}, "members: expected 1 to 1024, got 0"),
        (BINDING, {"id": ""}, "id: expected 1 to 128 letters"),
        (BINDING, {"members": ("group:a b",)}, "members[0]: expected 1 to 128 letters"),
        (BINDING, {"members": ("everyone",)}, "or key:… or group:NAME, got 'everyone'"),
        (BINDING, {"role": "builtin.nosuch"}, "role: names that begin with 'builtin.' are reserved"),
        (BINDING, {"resources": ()}, "resources: expected 1 to 1024, got 0"),
        (
            BINDING,
            {"resources": ("*",)},
            "resources[0]: expected KIND/ID such as models/fraud-*, or ** for everything, got '*'",
        ),
        (BINDING, {"resources": ("tenants/b/models/*",)}, "resources[0]: expected resources of tenant default"),
        (BINDING, {"begins": math.nan}, "begins: expected Unix seconds, got nan"),
        (BINDING, {"begins": 5.0, "expires": 5.0}, "expires: expected a time after it begins, got 5.0"),
        (BINDING, {"expires": math.nan}, "expires: expected a time after it begins, got nan"),
        (BINDING, {"reason": "x" * 1025}, "reason: expected 1024 characters at most, got 1025"),
        (BINDING, {"obligations": frozenset({" x"})}, "obligations: expected a text such as redact:pii, got ' x'"),
        (POLICY, {"effect": "permit"}, "effect: expected allow or deny, got 'permit'"),
        (POLICY, {"condition": "user.a == "}, "condition: expected a value, got the end, at character 11"),
        (POLICY, {"condition": "dataset.a == model.b"}, "condition: it reads of a model and of a dataset"),
        (POLICY, {"permissions": ("x",)}, "permissions[0]: expected a permission"),
        (POLICY, {"resources": ("models",)}, "resources[0]: expected KIND/ID"),
        (POLICY, {"effect": "deny"}, "obligations: expected none of a policy that denies"),
        (POLICY, {"version": 0}, "version: expected 1 or more, got 0"),
    ],
)
def test_a_fault_names_its_field(item: Any, change: dict[str, Any], fault: str) -> None:
    with pytest.raises(PolicyError) as refused:
        check(replace(item, **change))
    assert len(refused.value.faults) == 1
    assert fault in str(refused.value)
    assert refused.value.code is Code.INVALID_ARGUMENT


def test_all_faults_come_at_once() -> None:
    item = Grant("", ("x", "user:a", "y"), "a b", ("", "models/m", "z"), "a b", 9.0, 8.0)
    with pytest.raises(PolicyError) as refused:
        check(item)
    fields = [field for field, _ in refused.value.faults]
    assert fields == ["tenant", "id", "members[0]", "members[2]", "role", "resources[0]", "resources[2]", "expires"]


def test_a_fault_repeats_little_of_what_came() -> None:
    with pytest.raises(PolicyError) as refused:
        check(Role("x" * 10_000, ("models.*",)))
    assert len(str(refused.value)) < 300


NAMED = "a model's name or version: 256 characters at most, and no NUL"


def many(count: int, kind: str = "user:a/") -> tuple[str, ...]:
    return tuple(f"{kind}{at}" for at in range(count))


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (replace(BINDING, members=many(100), resources=many(100, "models/")), []),
        (replace(BINDING, members=many(1024), resources=many(9, "models/")), []),
        (
            replace(BINDING, members=many(101), resources=many(100, "models/")),
            [("members", f"expected {MOST_PAIRS} members times resources at most, got 101 x 100 = 10100")],
        ),
        (
            Policy("p", "deny", "", many(1024, "models.p"), many(10, "models/")),
            [("permissions", f"expected {MOST_PAIRS} permissions times resources at most, got 1024 x 10 = 10240")],
        ),
        (Policy("p", "deny", "", many(1024, "models.p")), []),
        (
            replace(GROUP, members=("user:a/b", "key:abc")),
            [("members[1]", "expected no API key, which says itself what it permits, got 'key:abc'")],
        ),
        (
            replace(BINDING, members=("key:*",)),
            [("members[0]", "expected no API key, which says itself what it permits, got 'key:*'")],
        ),
        (
            replace(POLICY, resources=("models/m", "models/a%00")),
            [
                (
                    "resources[1]",
                    f"expected {NAMED}, got 'models/a%00'",
                )
            ],
        ),
        (ROLE, []),
    ],
)
def test_what_is_too_much_for_one_thing(item: Item, found: list[tuple[str, str]]) -> None:
    check(item)  # what is kept is still read
    assert list(excesses(item)) == found


def test_in_how_many_places_something_stands() -> None:
    assert breadth(replace(BINDING, members=many(3), resources=many(4, "models/"))) == 12
    assert (breadth(Policy("p", "deny")), breadth(replace(POLICY, permissions=("a.b", "a.c")))) == (1, 2)
    assert (breadth(replace(GROUP, members=many(5))), breadth(replace(ROLE, permissions=("a.b",)))) == (5, 1)
