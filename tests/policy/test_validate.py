"""Faults of roles, groups, grants and policies: all at once, each with its field, what was expected and what came."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from interceptors.contract import Code
from sidecar.policy.model import Grant, Group, Item, Policy, Role
from sidecar.policy.validate import PolicyError, check

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
