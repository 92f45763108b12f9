"""Why and why not, what a change would do, and who can reach what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interceptors.facts import Principal
from sidecar.policy.conditions import HOLDS
from sidecar.policy.engine import Engine
from sidecar.policy.explain import Simulated, explain, reach, simulate
from sidecar.policy.model import Attributes, Grant, Group, Policy, Question, Role, Snapshot
from sidecar.policy.names import NameFault
from sidecar.policy.validate import PolicyError

ALICE = Principal("user", "user:okta/alice", attributes=(("level", 2),))
MODEL = "tenants/default/models/fraud-1"
ML = Role("ml", ("models.inference", "models.train"))
ASKED = Question(ALICE, "models.inference", MODEL, now=15.0)


def test_why() -> None:
    policy = Policy("p", "allow", "user.level > 1")
    grant = Grant("b", ("user:**",), "ml", ("**",))
    found = explain(Engine(Snapshot(1, (ML,), (), (grant,), (policy,))), ASKED)
    assert found.decision.allowed
    assert [(each.grant, each.state) for each in found.grants] == [(grant, "active")]
    assert [(each.policy, each.outcome) for each in found.policies] == [(policy, HOLDS)]
    assert (found.suggested, found.enough) == ((), False)


def test_why_not_and_what_comes_near() -> None:
    grants = (
        Grant("over", ("user:**",), "ml", ("**",), expires=10.0),
        Grant("early", ("user:**",), "ml", ("**",), begins=20.0),
        Grant("elsewhere", ("user:**",), "ml", ("models/spam",)),
        Grant("other", ("user:bob",), "ml", ("**",)),
        Grant("weak", ("user:**",), "builtin.viewer", ("**",)),
    )
    found = explain(Engine(Snapshot(1, (ML,), (), grants)), ASKED)
    assert found.decision.reason == "policy.no_grant"
    assert {each.grant.id: each.state for each in found.grants} == {
        "over": "expired", "early": "not begun", "elsewhere": "another resource",
    }  # fmt: skip


def test_which_grant_would_change_it() -> None:
    engine = Engine(Snapshot(1, (ML, Role("all", ("models.*",)))))
    found = explain(engine, ASKED)
    assert found.enough
    assert [each.role for each in found.suggested] == [
        "ml", "all", "builtin.ml_engineer", "builtin.data_scientist", "builtin.admin",
    ]  # fmt: skip
    for suggested in found.suggested:
        changed = Engine(engine.tables.snapshot())
        changed.put(suggested)
        assert changed.decide(ALICE, ASKED.permission, MODEL).allowed
        assert not changed.decide(ALICE, ASKED.permission, "tenants/default/models/fraud-2").allowed
        assert not changed.decide(replace(ALICE, name="user:okta/bob"), ASKED.permission, MODEL).allowed


def test_no_grant_is_enough_where_a_policy_objects() -> None:
    engine = Engine(Snapshot(1, policies=(Policy("p", "deny", "user.level > 1"), Policy("q", "allow", "user.mfa"))))
    found = explain(engine, ASKED)
    assert found.suggested
    assert not found.enough
    assert {each.policy.name: each.outcome.missing for each in found.policies} == {"p": (), "q": ("user.mfa",)}


def test_nothing_is_suggested_that_would_reach_others() -> None:
    found = explain(Engine(), replace(ASKED, principal=Principal("user", "user:okta/*")))
    assert (found.suggested, found.enough) == ((), False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"resource": "x"}, "resource"),
        ({"permission": "*"}, "permission"),
        ({"resource": "tenants/t/models/m"}, "tenant"),
    ],
)
def test_what_cannot_be_granted_is_not_suggested(change: dict[str, str], reason: str) -> None:
    found = explain(Engine(), replace(ASKED, **change))  # type: ignore[arg-type]
    assert found.decision.reason == f"policy.{reason}"
    assert not found.suggested


def test_a_change_against_recorded_questions() -> None:
    grant = Grant("b", ("user:okta/*",), "ml", ("**",))
    engine = Engine(Snapshot(1, (ML,), (), (grant, Grant("c", ("user:okta/*",), "ml", ("datasets/*",)))))
    before = engine.tables.snapshot()
    put = [
        Policy("p", "deny", "request.size > 10", permissions=("models.inference",)),
        Policy("q", "allow", permissions=("models.train",), obligations=frozenset({"require:mfa"})),
    ]
    questions = [
        replace(ASKED, attributes=Attributes(request={"size": 1})),
        replace(ASKED, attributes=Attributes(request={"size": 11})),
        replace(ASKED, permission="models.train"),
        replace(ASKED, permission="models.deploy"),
    ]
    changed = simulate(engine, put, [], questions).changed
    assert [(each.question, each.before.allowed, each.after.allowed) for each in changed] == [
        (questions[1], True, False), (questions[2], True, True),
    ]  # fmt: skip
    assert changed[1].after.obligations == {"require:mfa"}
    assert simulate(engine, [], [], questions) == Simulated((), 0)
    assert simulate(engine, put, [], [replace(ASKED, attributes=Attributes())]).undecided == 1
    assert len(simulate(engine, [], [(Grant, "default", "b"), (Grant, "default", "x")], questions).changed) == 3
    with pytest.raises(PolicyError):
        simulate(engine, [replace(ML, permissions=("models.*",)), Role("x", ())], [(Grant, "default", "c")], questions)
    after = engine.tables.snapshot()
    assert (set(after.roles), set(after.grants), after.policies) == ({ML}, set(before.grants), ())
    assert engine.decide(ALICE, "models.inference", MODEL, now=1.0).allowed


def test_who_can_reach_a_resource() -> None:
    snapshot = Snapshot(
        1,
        (ML,),
        (Group("team", ("user:a", "user:b")),),
        (
            Grant("g", ("group:team", "group:gone"), "ml", ("models/*",)),
            Grant("s", ("spiffe://example.org/*",), "ml", ("models/fraud-*",), expires=20.0),
            Grant("over", ("user:c",), "ml", ("**",), expires=10.0),
            Grant("elsewhere", ("user:d",), "ml", ("models/spam",)),
            Grant("theirs", ("user:e",), "ml", ("**",), tenant="t"),
        ),
        (Policy("p", "allow", "user.level > 1"), Policy("q", "allow")),
    )
    found = list(reach(Engine(snapshot), "models.train", MODEL, 15.0))
    assert {each.policies for each in found} == {("p",)}
    assert [(each.member, each.group, each.grant and each.grant.id) for each in found if each.role == "ml"] == [
        ("role:ml", "", None), ("user:a", "team", "g"), ("user:b", "team", "g"), ("spiffe://example.org/*", "", "s"),
    ]  # fmt: skip
    assert {each.member for each in found if each.role != "ml"} == {
        "role:builtin.admin", "role:builtin.data_scientist", "role:builtin.ml_engineer",
    }  # fmt: skip


def test_where_a_policy_always_denies_nobody_can() -> None:
    snapshot = Snapshot(1, (ML,), (), (Grant("b", ("user:**",), "ml", ("**",)),), (Policy("p", "deny"),))
    assert list(reach(Engine(snapshot), "models.train", MODEL, 0.0)) == []
    with pytest.raises(NameFault):
        list(reach(Engine(), "models.train", "fraud-1", 0.0))
