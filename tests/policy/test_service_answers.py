"""What would be decided, why, what a change would do, and who reaches what: over gRPC, on either database."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from interceptors.facts import Principal
from langtrain.v1 import policies_pb2 as pb
from sidecar.internal.mac import Caller
from sidecar.policy.inquiry import Calls, Window
from sidecar.policy.model import Question
from tests.policy.serving import ADMIN, BOB, NOW, OTHER_ADMIN, Refused, Scene, seconds
from tests.policy.test_service_items import listed, named, refused

ADA = "user:corp/ada"


def question(principal: str = "", permission: str = "models.train", name: str = "", **more: Any) -> pb.Question:
    """more: attributes by root, and the subject's as `user`."""
    asked = pb.Question(subject=pb.Subject(principal=principal), permission=permission, resource=name)
    asked.subject.attributes.update(more.pop("user", {}))
    asked.attributes.update(more)
    return asked


def check(scene: Scene, asked: pb.Question) -> pb.Decision:
    decision: pb.Decision = scene.admin.Check(pb.CheckRequest(question=asked)).decision
    return decision


def test_what_a_decision_says(scene: Scene) -> None:
    until = Timestamp(seconds=int(NOW) + 100)
    grant = scene.admin.grant(ADA, "builtin.ml_engineer", "models/fraud-*", expires=until, obligations=["redact:pii"])
    scene.admin.policy(
        "clearance", "user.level >= model.level", pb.EFFECT_ALLOW, permissions=["models.train"],
        obligations=["require:mfa"],
    )  # fmt: skip
    scene.admin.policy("big", "request.size > 100")
    scene.admin.policy("night", "environment.time.getHours() < 6", permissions=["models.read"])
    asked = question(
        ADA, "models.train", "models/fraud-1", user={"level": 3}, resource={"level": 2.5}, request={"size": 10}
    )
    decision = check(scene, asked)
    assert decision == pb.Decision(
        allowed=True, reason="policy.allowed", grants=[grant.grant_id], policies=["clearance"],
        obligations=["redact:pii", "require:mfa"], until=until,
    )  # fmt: skip
    asked.attributes.update({"request": {"size": 101}})
    assert (check(scene, asked).reason, list(check(scene, asked).policies)) == ("policy.deny", ["big"])
    del asked.attributes.fields["request"]
    missing = check(scene, asked)
    assert (missing.reason, list(missing.missing)) == ("policy.missing", ["request.size"])
    assert check(scene, question(ADA, "models.train", "models/spam")).reason == "policy.no_grant"
    asked = question(ADA, "models.read", "models/fraud-1", request={"size": 1})
    assert seconds(check(scene, asked).until) == NOW  # for the time of day was asked for
    asked.time.FromSeconds(int(NOW) + 100)
    assert check(scene, asked).reason == "policy.no_grant"


def test_questions_about_oneself(scene: Scene) -> None:
    """Whoever asks is whom the relay knows, with the roles that are asserted of him."""
    vouched = scene.client(Caller("user", ADA, "default", "", ("builtin.viewer",)))
    ask = pb.CheckRequest(question=question("", "models.read", "models/m"))
    assert list(vouched.Check(ask).decision.grants) == ["role:builtin.viewer"]
    assert not scene.bob.Check(ask).decision.allowed
    ask.question.subject.principal = ADA  # named, nothing is asserted but what is said
    assert not vouched.Check(ask).decision.allowed
    ask.question.subject.roles.append("builtin.viewer")
    assert vouched.Check(ask).decision.allowed
    assert check(scene, question("", "policies.write")).allowed


def test_of_another_tenants_resource_nothing_is_told(scene: Scene) -> None:
    scene.client(OTHER_ADMIN).grant(OTHER_ADMIN.name, "builtin.viewer")
    theirs = question(OTHER_ADMIN.name, "models.read", "tenants/other/models/m")
    assert check(scene, theirs) == pb.Decision(allowed=False, reason="policy.tenant")
    explained = scene.admin.Explain(pb.ExplainRequest(question=theirs))
    assert (list(explained.grants), list(explained.suggested)) == ([], [])
    request = pb.ListAccessRequest(permission="models.read", resource="tenants/other/models/m")
    assert named(refused(lambda: scene.admin.ListAccess(request)))[2] == ["resource"]
    request.resource = "tenants/default/models/m"
    assert ADMIN.name in [each.member for each in scene.admin.ListAccess(request).reaches]


def test_many_questions_at_once(scene: Scene) -> None:
    scene.admin.grant(ADA, "builtin.viewer", "models/fraud-*")
    asked = [question(ADA, "models.read", f"models/fraud-{at}" if at % 3 else "models/x") for at in range(1000)]
    decisions = scene.admin.CheckMany(pb.CheckManyRequest(questions=asked)).decisions
    assert [each.allowed for each in decisions] == [bool(at % 3) for at in range(1000)]
    for count in (0, 1001):
        request = pb.CheckManyRequest(questions=[question(ADA)] * count)
        assert named(refused(partial(scene.admin.CheckMany, request)))[2] == ["questions"]
    request = pb.CheckManyRequest(questions=[question(ADA), question("x"), question(ADA, "y")])
    assert named(refused(lambda: scene.admin.CheckMany(request)))[2] == [
        "questions[1].subject.principal", "questions[2].permission",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (question("alice"), ["question.subject.principal"]),
        (question("group:g"), ["question.subject.principal"]),
        (question(ADA, ""), ["question.permission"]),
        (question(ADA, "models.*"), ["question.permission"]),
        (question(ADA, name="models"), ["question.resource"]),
        (question(ADA, name="models/*"), ["question.resource"]),
        (question(ADA, name="x" * 2000), ["question.resource"]),
        (question(ADA, name="models/a%00"), ["question.resource"]),
        (question(ADA, name="models/è"), ["question.resource"]),
        (question(ADA, name=f"models/{'m' * 257}"), ["question.resource"]),
        (question(ADA, other={"a": 1}), ["question.attributes.other"]),
        (question(ADA, request=7), ["question.attributes.request"]),
        (question(ADA, request={"a": None}), ["question.attributes.request.a"]),
        (question(ADA, user={"a": None}), ["question.subject.attributes.a"]),
        (question(ADA, user={"a": {"b": 1}}), ["question.subject.attributes.a"]),
        (question(ADA, user={"a": [1]}), ["question.subject.attributes.a"]),
    ],
)
def test_each_field_of_a_question_at_fault_is_named(alone: Scene, asked: pb.Question, fields: list[str]) -> None:
    for method, request in (
        ("Check", pb.CheckRequest(question=asked)), ("Explain", pb.ExplainRequest(question=asked)),
    ):  # fmt: skip
        found = refused(partial(getattr(alone.admin, method), request))
        assert named(found) == ("INVALID_ARGUMENT", "REQUEST_INVALID", fields)
    asked = pb.Question()
    asked.time.seconds = 1 << 60
    found = refused(lambda: alone.admin.Check(pb.CheckRequest(question=asked)))
    assert named(found)[2] == ["question.permission", "question.time"]


def test_why_not_and_what_would_help(scene: Scene) -> None:
    over = Timestamp(seconds=int(NOW) + 10)
    old = scene.admin.grant(ADA, "builtin.ml_engineer", "**", expires=over)
    other = scene.admin.grant(ADA, "builtin.ml_engineer", "models/spam")
    scene.admin.policy("careful", "user.level < 2", permissions=["models.*"], description="for the careful")
    scene.now += 20
    asked = question(ADA, "models.train", "models/fraud-1", user={"level": 2})
    found = scene.admin.Explain(pb.ExplainRequest(question=asked))
    assert found.decision.reason == "policy.no_grant"
    assert {each.grant.grant_id: each.state for each in found.grants} == {
        old.grant_id: "expired", other.grant_id: "another resource",
    }  # fmt: skip
    (judged,) = found.policies
    assert (judged.policy.name, judged.policy.version, judged.holds, judged.error) == ("careful", 1, False, "")
    assert found.enough
    suggested = found.suggested[0]
    assert (suggested.grant_id, suggested.role, suggested.resources) == ("", "builtin.ml_engineer", ["models/fraud-1"])
    scene.admin.CreateGrant(pb.CreateGrantRequest(grant=suggested))  # as it was said
    assert check(scene, asked).allowed
    asked.subject.attributes["level"] = 1
    found = scene.admin.Explain(pb.ExplainRequest(question=asked))
    assert (found.decision.reason, found.policies[0].holds, found.enough) == ("policy.deny", True, False)
    asked.subject.attributes["level"] = "high"
    assert scene.admin.Explain(pb.ExplainRequest(question=asked)).policies[0].error != ""


def test_what_a_change_would_do_without_its_being_made(scene: Scene) -> None:
    grant = scene.admin.grant(ADA, "builtin.ml_engineer", "models/*")
    scene.admin.role("own", "models.deploy")
    scene.admin.policy("p", "true", permissions=["models.deploy"])
    train, read, deploy, bobs = (
        question(ADA, "models.train", "models/m", request={"size": 7}),
        question(ADA, "models.read", "models/m"),
        question(ADA, "models.deploy", "models/m"),
        question(BOB.name, "models.deploy", "models/m"),
    )
    request = pb.SimulateRequest(
        put_policies=[pb.Policy(name="small", effect=pb.EFFECT_DENY, condition="request.size > 5",
                                permissions=["models.train"])],
        put_grants=[pb.Grant(members=[BOB.name], role="own", resources=["**"])],
        delete_policies=["p"],
        questions=[train, read, deploy, bobs],
    )  # fmt: skip
    found = scene.admin.Simulate(request)
    assert (found.questions, found.undecided) == (4, 0)
    assert [(each.question.subject.principal, each.question.permission, each.before.allowed, each.after.reason)
            for each in found.changed] == [
        (ADA, "models.train", True, "policy.deny"), (BOB.name, "models.deploy", False, "policy.allowed"),
    ]  # fmt: skip
    assert found.changed[0].question.attributes["request"]["size"] == 7
    assert seconds(found.changed[0].question.time) == NOW
    request = pb.SimulateRequest(delete_grants=[grant.grant_id], questions=[train, read, deploy])
    assert [each.question.permission for each in scene.admin.Simulate(request).changed] == [
        "models.train",
        "models.read",
    ]
    assert [each.name for each in scene.admin.ListPolicies(pb.ListPoliciesRequest()).policies] == ["p"]
    assert scene.admin.may(ADA, "models.train", "models/m")
    assert len(scene.recorded) == 3


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"put_roles": [pb.Role(name="builtin.viewer", permissions=["x"])]},
         ["put_roles[0].name", "put_roles[0].permissions[0]"]),
        ({"put_grants": [pb.Grant(role="r", resources=["**"])]}, ["put_grants[0].members"]),
        ({"put_policies": [pb.Policy(name="p"), pb.Policy(name="q", effect=pb.EFFECT_ALLOW, condition="(")]},
         ["put_policies[0].effect", "put_policies[1].condition"]),
        ({"delete_roles": ["missing", "builtin.viewer"]}, ["delete_roles[0]", "delete_roles[1]"]),
        ({"delete_grants": ["x"], "delete_policies": ["y"]}, ["delete_grants[0]", "delete_policies[0]"]),
    ],
)  # fmt: skip
def test_each_fault_of_a_change_is_named(alone: Scene, change: dict[str, Any], fields: list[str]) -> None:
    request = pb.SimulateRequest(questions=[question(ADA)], **change)
    assert sorted({*named(refused(lambda: alone.admin.Simulate(request)))[2]}) == fields


def test_a_change_against_calls_of_late(scene: Scene) -> None:
    asked = Question(Principal("user", ADA), "models.read", "tenants/default/models/m", now=NOW - 5)
    scene.calls = Calls([asked, replace(asked, permission="models.train")], 7, NOW - 9, NOW - 5, True)
    request = pb.SimulateRequest(put_grants=[pb.Grant(members=[ADA], role="builtin.viewer", resources=["**"])])
    found = scene.admin.Simulate(request)
    assert (found.questions, [each.question.permission for each in found.changed]) == (2, ["models.read"])
    assert seconds(found.changed[0].question.time) == NOW - 5
    assert (found.calls, seconds(found.first), seconds(found.last), found.more) == (7, NOW - 9, NOW - 5, True)
    request.since.FromSeconds(int(NOW) - 100)
    request.until.FromSeconds(int(NOW))
    request.most_questions = 10
    scene.admin.Simulate(request)
    assert scene.windows == [Window(), Window(NOW - 100, NOW, 10)]


def test_how_many_decisions_would_be_others_and_why_some_cannot_be_told(scene: Scene) -> None:
    ben = question(BOB.name, "models.read", "models/m")
    scene.admin.grant(ADA, "builtin.ml_engineer", "models/*")
    asked = [question(ADA, "models.train", f"models/{at}", request={"size": at}) for at in range(5)]
    asked += [question(ADA, "models.read", "models/m")] * 3 + [ben]
    request = pb.SimulateRequest(
        put_policies=[
            pb.Policy(name="few", effect=pb.EFFECT_DENY, condition="request.size > 2", permissions=["models.train"]),
            pb.Policy(name="a", effect=pb.EFFECT_DENY, condition="user.level < request.floor", resources=["models/m"]),
            pb.Policy(name="careful", effect=pb.EFFECT_ALLOW, obligations=["redact:pii"], resources=["models/0"]),
        ],
        put_grants=[pb.Grant(members=[BOB.name], role="builtin.viewer", resources=["models/n"])],
        questions=[*asked, question(BOB.name, "models.read", "models/n")],
    )  # fmt: skip
    found = scene.admin.Simulate(request)
    assert (found.newly_denied, found.newly_allowed, found.otherwise_obliged) == (2, 1, 1)
    assert [(each.before.allowed, each.after.allowed) for each in found.changed] == [
        (True, False), (True, False), (False, True), (True, True),
    ]  # fmt: skip
    assert (found.questions, found.undecided) == (10, 3)
    assert [(each.attribute, each.questions) for each in found.lacking] == [("request.floor", 3), ("user.level", 3)]
    assert (found.calls, found.granted_elsewhere, found.more) == (0, 0, False)
    request.most_changed = 1
    found = scene.admin.Simulate(request)
    assert [each.after.reason for each in found.changed] == ["policy.deny"]
    assert (found.newly_denied, found.newly_allowed, found.otherwise_obliged) == (2, 1, 1)


def test_calls_that_no_role_explains_are_tried_against_policies(scene: Scene) -> None:
    """Let in by a rule of the config, a key, or a role that a token asserted."""
    by_rule = Question(Principal("user", ADA), "models.read", "tenants/default/models/m", let_in=True)
    by_key = replace(by_rule, principal=Principal("key", "key:k"), resource="tenants/default/models/n")
    scene.calls = Calls([by_rule, by_key, replace(by_rule, let_in=False)], 3, NOW, NOW)
    deny = pb.Policy(name="p", effect=pb.EFFECT_DENY, condition="model.id == 'm'")
    found = scene.admin.Simulate(pb.SimulateRequest(put_policies=[deny]))
    assert (found.questions, found.granted_elsewhere, found.newly_denied) == (3, 2, 1)
    (changed,) = found.changed
    assert (changed.question.subject.principal, changed.after.reason) == (ADA, "policy.deny")
    grant = scene.admin.grant(ADA, "builtin.viewer")
    found = scene.admin.Simulate(pb.SimulateRequest(delete_grants=[grant.grant_id]))
    assert (found.granted_elsewhere, found.newly_denied) == (1, 2)  # now it is his grant that explains it


@pytest.mark.parametrize(
    ("wrong", "fields"),
    [
        ({"most_questions": 1001}, ["most_questions"]),
        ({"most_questions": -1, "most_changed": 1001}, ["most_changed", "most_questions"]),
        ({"since": Timestamp(seconds=5), "until": Timestamp(seconds=5)}, ["until"]),
        ({"since": Timestamp(seconds=1 << 60)}, ["since"]),
    ],
)
def test_a_window_that_makes_no_sense(alone: Scene, wrong: dict[str, Any], fields: list[str]) -> None:
    found = refused(lambda: alone.admin.Simulate(pb.SimulateRequest(**wrong)))
    assert named(found) == ("INVALID_ARGUMENT", "REQUEST_INVALID", fields)


@pytest.mark.parametrize("most", [1, 2, 100])
def test_who_can_reach_a_model(scene: Scene, most: int) -> None:
    scene.admin.group("team", "user:corp/b*", "user:corp/c")
    one = scene.admin.grant(ADA, "builtin.viewer", "models/fraud-*")
    two = scene.admin.grant("group:team", "builtin.ml_engineer", "**")
    scene.admin.grant("user:corp/d", "builtin.viewer", "models/spam")
    scene.admin.grant("user:corp/e", "builtin.viewer", "**", begins=Timestamp(seconds=int(NOW) + 9))
    scene.admin.policy("level", "user.level < 2", permissions=["models.read"])
    request = pb.ListAccessRequest(permission="models.read", resource="models/fraud-1")
    found = listed(scene.admin, "ListAccess", "reaches", request, most)
    assert [(each.member, each.role, each.grant_id, each.group) for each in found] == sorted([
        *((f"role:{role}", role, "", "") for role in (
            "builtin.admin", "builtin.data_scientist", "builtin.ml_engineer", "builtin.security_officer",
            "builtin.viewer")),
        (ADMIN.name, "builtin.admin", "config.bootstrap_admins", ""),
        (ADA, "builtin.viewer", one.grant_id, ""),
        ("user:corp/b*", "builtin.ml_engineer", two.grant_id, "team"),
        ("user:corp/c", "builtin.ml_engineer", two.grant_id, "team"),
    ])  # fmt: skip
    assert all(each.policies == ["level"] for each in found)


@pytest.mark.parametrize("token", ["x", "é", "AAAA", "WzFd", "W10=", "WyJhIiwiYiIsImMiLDFd", "=" * 100])
def test_a_page_of_somebody_elses_making(alone: Scene, token: str) -> None:
    request = pb.ListAccessRequest(permission="models.read", resource="models/m", page_token=token)
    assert named(refused(lambda: alone.admin.ListAccess(request)))[2] == ["page_token"]
    request = pb.ListAccessRequest(permission="*", resource="models/*", page_size=1001)
    with pytest.raises(Refused):
        alone.admin.ListAccess(request)
    request.page_size = 0
    assert named(refused(lambda: alone.admin.ListAccess(request)))[2] == ["permission", "resource"]
