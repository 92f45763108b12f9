"""Nobody shuts himself out unawares, over gRPC: what he could not undo is done only where he says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from interceptors.facts import Principal
from langtrain.v1 import policies_pb2 as pb
from sidecar.internal.mac import Caller
from sidecar.policy import lockout, tables
from sidecar.policy.engine import Engine
from sidecar.policy.model import Attributes, Grant, Policy, Snapshot
from sidecar.policy.validate import PolicyError
from tests.policy import expressions
from tests.policy.serving import ADMIN, BOB, NOW, Client, Refused, Scene

WRITES = ("roles.write", "groups.write", "grants.write", "policies.write")


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as raised:
        call()
    assert (raised.value.code, raised.value.reason) == ("FAILED_PRECONDITION", "POLICY_LOCKOUT")
    ((field, said),) = raised.value.fields.items()
    assert field == "allow_lockout"
    return said.removeprefix("expected true, for ")


def put(client: Client, condition: str, name: str = "p", allow: bool = False, **more: Any) -> Any:
    policy = pb.Policy(name=name, effect=more.pop("effect", pb.EFFECT_DENY), condition=condition, **more)
    return client.CreatePolicy(pb.CreatePolicyRequest(policy=policy, allow_lockout=allow))


@pytest.mark.parametrize(
    ("condition", "more", "why"),
    [
        ("", {}, "it denies you: policy.deny"),
        ("true", {"permissions": ["*"]}, "it denies you: policy.deny"),
        ("true", {"permissions": ["policies.*"]}, "it denies you: policy.deny"),
        ("", {"permissions": ["policies.write"], "resources": ["**"]}, "it denies you: policy.deny"),
        ("false", {"effect": pb.EFFECT_ALLOW}, "it denies you: policy.unmet"),
        (f"user.name == '{ADMIN.name}'", {}, "it denies you: policy.deny"),
        (f"environment.source == '{ADMIN.source}'", {}, "it denies you: policy.deny"),
        ("request.method.endsWith('/DeletePolicy')", {}, "it denies you: policy.deny"),
        ("request.size > 2", {}, "it denies you: policy.deny"),
        ("environment.time > timestamp('2020-01-01T00:00:00Z')", {}, "it denies you: policy.deny"),
        ("resource.owner == 'x'", {}, "it denies you: policy.missing resource.owner"),
        ("model.level > 3", {"permissions": ["policies.write"]}, "it denies you: policy.missing model.level"),
        ("user.level < 3", {}, "its condition asks for user.level, which is not known of you here"),
        ("has(user.level) && user.level < 3", {},
         "its condition asks for user.level, which is not known of you here"),
        ("request.purpose == 'x' || environment.location == 'y'", {},
         "its condition asks for environment.location, request.purpose, which is not known of you here"),
        ("true", {"effect": pb.EFFECT_ALLOW, "obligations": ["require:mfa"]},
         "it obliges to require:mfa, and you may not meet it"),
    ],
)  # fmt: skip
def test_a_policy_that_may_shut_its_author_out(scene: Scene, condition: str, more: dict[str, Any], why: str) -> None:
    assert refused(partial(put, scene.admin, condition, **more)) == f"{why}, which would keep policies.write from you"
    assert list(scene.admin.ListPolicies(pb.ListPoliciesRequest()).policies) == []
    assert scene.recorded == []
    put(scene.admin, condition, allow=True, **more)
    (event,) = scene.recorded
    assert json.loads(event.reason)["lockout"] == f"{why}, which would keep policies.write from you"


@pytest.mark.parametrize(
    ("condition", "more"),
    [
        ("true", {"permissions": ["models.*", "roles.write"]}),
        ("true", {"resources": ["models/*"]}),
        ("user.level < model.level", {}),  # which only models have
        ("user.level < 3", {"permissions": ["models.*"]}),
        (f"user.name != '{ADMIN.name}'", {}),
        ("request.size > 3", {}),  # a request to delete "p" has three
        ("'builtin.admin' in user.roles", {}),
        ("true", {"effect": pb.EFFECT_ALLOW}),
        ("request.method.endsWith('/CreatePolicy')", {}),
    ],
)
def test_a_policy_that_its_author_can_take_away_again(scene: Scene, condition: str, more: dict[str, Any]) -> None:
    put(scene.admin, condition, **more)
    assert "lockout" not in json.loads(scene.recorded[0].reason)


def test_what_comes_in_its_place_counts_where_it_decides_otherwise(scene: Scene) -> None:
    policy = put(scene.admin, "user.level < 3", allow=True).policy
    policy.description = "the same, explained"
    policy = scene.admin.UpdatePolicy(pb.UpdatePolicyRequest(policy=policy)).policy
    policy.condition = "user.level < 2"
    assert "user.level" in refused(lambda: scene.admin.UpdatePolicy(pb.UpdatePolicyRequest(policy=policy)))
    policy = scene.admin.UpdatePolicy(pb.UpdatePolicyRequest(policy=policy, allow_lockout=True)).policy
    policy.permissions.append("models.*")
    scene.admin.UpdatePolicy(pb.UpdatePolicyRequest(policy=policy))
    scene.admin.DeletePolicy(pb.DeletePolicyRequest(name="p"))  # which takes nothing from anybody


def test_one_policy_more_than_can_be_asked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_TOGETHER", 2 * tables.RULE_COST)
    for name in ("a", "b"):
        put(scene.admin, "", name, effect=pb.EFFECT_ALLOW)
    assert "take too long together" in refused(lambda: put(scene.admin, "", "c", effect=pb.EFFECT_ALLOW))
    put(scene.admin, "", "c", effect=pb.EFFECT_ALLOW, permissions=["models.*"])


def test_who_is_let_in_by_a_rule_loses_no_role(scene: Scene) -> None:
    """And is denied by policies like everybody."""
    put(scene.bob, "true", permissions=["models.*"])
    assert "policy.deny" in refused(lambda: put(scene.bob, "true", "q"))
    scene.admin.role("keeper", *WRITES)
    grant = scene.admin.grant("user:corp/ada", "keeper")
    scene.bob.RevokeGrant(pb.RevokeGrantRequest(grant_id=grant.grant_id))


@pytest.fixture
def keeper(scene: Scene) -> Client:
    """Bob, who has a role for administering, by way of a group and of a grant."""
    scene.admin.role("keeper", *WRITES, "models.*")
    scene.admin.group("keepers", BOB.name, "user:corp/ada")
    scene.admin.grant("group:keepers", "keeper", grant_id="g")
    return scene.bob


def test_who_administers_keeps_what_it_takes(scene: Scene, keeper: Client) -> None:
    fewer = pb.Role(name="keeper", permissions=WRITES[:3])
    lone = pb.Group(name="keepers", members=["user:corp/ada"])
    for call in (
        lambda **also: keeper.UpdateRole(pb.UpdateRoleRequest(role=fewer, **also)),
        lambda **also: keeper.UpdateGroup(pb.UpdateGroupRequest(group=lone, **also)),
        lambda **also: keeper.DeleteRole(pb.DeleteRoleRequest(name="keeper", force=True, **also)),
        lambda **also: keeper.DeleteGroup(pb.DeleteGroupRequest(name="keepers", force=True, **also)),
        lambda **also: keeper.RevokeGrant(pb.RevokeGrantRequest(grant_id="g", **also)),
    ):
        assert refused(call).startswith("no role would give you ")
    keeper.UpdateRole(pb.UpdateRoleRequest(role=pb.Role(name="keeper", permissions=WRITES)))  # models it need not have
    other = scene.admin.grant(BOB.name, "keeper")
    keeper.RevokeGrant(pb.RevokeGrantRequest(grant_id="g"))
    assert refused(lambda: keeper.RevokeGrant(pb.RevokeGrantRequest(grant_id=other.grant_id))) == (
        "no role would give you grants.write any more"
    )
    recorded = len(scene.recorded)
    keeper.RevokeGrant(pb.RevokeGrantRequest(grant_id=other.grant_id, allow_lockout=True, reason="leaving"))
    said = json.loads(scene.recorded[recorded].reason)
    assert (said["lockout"], said["reason"]) == ("no role would give you grants.write any more", "leaving")


def test_a_grant_obliges_in_all_that_its_member_has(scene: Scene, keeper: Client) -> None:
    grant = pb.Grant(members=[BOB.name], role="keeper", resources=["**"], obligations=["require:mfa"])
    assert refused(lambda: keeper.CreateGrant(pb.CreateGrantRequest(grant=grant))) == (
        "grants.write would oblige you to require:mfa, and you may not meet it"
    )
    grant.members[:] = ["user:corp/eve"]
    keeper.CreateGrant(pb.CreateGrantRequest(grant=grant))


def test_what_the_config_gives_nobody_loses(scene: Scene) -> None:
    scene.admin.role("keeper", *WRITES)
    grant = scene.admin.grant(ADMIN.name, "keeper")
    scene.admin.RevokeGrant(pb.RevokeGrantRequest(grant_id=grant.grant_id))
    scene.admin.DeleteRole(pb.DeleteRoleRequest(name="keeper"))


def test_what_a_token_asserts_counts(scene: Scene) -> None:
    vouched = scene.client(Caller("user", "user:corp/dora", "default", "", ("keeper",)))
    scene.admin.role("keeper", *WRITES)
    fewer = pb.Role(name="keeper", permissions=WRITES[:2])
    assert refused(lambda: vouched.UpdateRole(pb.UpdateRoleRequest(role=fewer))) == (
        "no role would give you grants.write any more"
    )


def _some(*patterns: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(patterns), max_size=2).map(tuple)


CONDITIONS = (
    "", "request.size > 3", "request.size > 2", "resource.kind == ''", "model.id == 'm'", "user.kind == 'spiffe'",
    "environment.source == '192.0.2.1'", "'builtin.admin' in user.roles", "has(user.level) && user.level < 2",
    "!has(user.level) || user.level > 1", "has(request.purpose)", "!has(environment.location)",
)  # fmt: skip
POLICIES = st.builds(
    Policy,
    st.just("p"),
    st.sampled_from(("allow", "deny")),
    expressions.CONDITIONS | st.sampled_from(CONDITIONS),
    _some("models.*", "policies.write", "policies.*", "*"),
    _some("models/*", "**", "datasets/d"),
)


@settings(max_examples=500, deadline=None)
@given(POLICIES, expressions.USERS)
def test_who_is_not_warned_can_take_it_away_whatever_else_is_known_of_him(policy: Policy, user: dict[str, Any]) -> None:
    try:
        made = Engine(Snapshot(grants=(Grant("g", (ADMIN.name,), "builtin.admin", ("**",)),)))
        admin = Principal("spiffe", ADMIN.name)
        warned = lockout.lost(made, admin, ADMIN.source, [policy], [], NOW)
        made.put(policy)
    except PolicyError:
        assume(False)  # a text that is no condition
    call = Attributes(
        request={"method": lockout.DELETE, "size": 3, "purpose": "x"},
        environment={"source": ADMIN.source, "location": "here"},
    )
    more = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in user.items())
    for known in ((), more):
        who = Principal("spiffe", ADMIN.name, attributes=known)
        decision = made.decide(who, "policies.write", "tenants/default", call, NOW)
        assert decision.allowed or warned, decision
