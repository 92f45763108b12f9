"""What the calls of `langtrain.auth` and `langtrain.iam` ask of a sidecar, and what they make of its answers."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

import langtrain
from langtrain import keys, policies, roles
from langtrain.auth import AsyncAuthenticationManager, AsyncRoleManager, AuthenticationManager, RoleManager
from langtrain.iam import AsyncPolicyEngine, PolicyEngine
from langtrain.v1 import api_keys_pb2 as keys_pb
from langtrain.v1 import policies_pb2 as pb
from tests.clients.answering import answering

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


@pytest.mark.parametrize(
    ("steps", "asked"),
    [
        (
            keys.create_api_key("user123", ["models.inference"], 30, True, "1000/hour", ["models/a"], "t"),
            keys_pb.CreateApiKeyRequest(
                owner="user:user123",
                permissions=["models.inference"],
                resources=["models/a"],
                lifetime=Duration(seconds=30 * 86400),
                rate="1000/hour",
                auto_rotate=True,
                title="t",
            ),
        ),
        (keys.create_api_key("key:k", ["*"]), keys_pb.CreateApiKeyRequest(owner="key:k", permissions=["*"])),
        (keys.list_api_keys(), keys_pb.ListApiKeysRequest(page_size=1000)),
        (keys.list_api_keys("login/a"), keys_pb.ListApiKeysRequest(owner="user:login/a", page_size=1000)),
        (
            keys.rotate_api_key("k", timedelta(0)),
            keys_pb.RotateApiKeyRequest(key_id="k", overlap=Duration()),
        ),
        (keys.fetch_api_key("k"), keys_pb.FetchApiKeyRequest(key_id="k")),
        (keys.revoke_api_key("k", successors=True), keys_pb.RevokeApiKeyRequest(key_id="k", successors=True)),
        (
            roles.update_role("r", ["a.b"], "d", 3),
            pb.UpdateRoleRequest(role=pb.Role(name="r", permissions=["a.b"], description="d", version=3)),
        ),
        (roles.delete_role("r", 3), pb.DeleteRoleRequest(name="r", version=3)),
        (
            roles.delete_role("r", force=True, allow_lockout=True),
            pb.DeleteRoleRequest(name="r", force=True, allow_lockout=True),
        ),
        (
            roles.update_role("r", (), allow_lockout=True),
            pb.UpdateRoleRequest(role=pb.Role(name="r"), allow_lockout=True),
        ),
        (roles.delete_group("g", force=True), pb.DeleteGroupRequest(name="g", force=True)),
        (roles.revoke("g-1", allow_lockout=True), pb.RevokeGrantRequest(grant_id="g-1", allow_lockout=True)),
        (
            roles.create_group("g", ["spiffe://example.org/*", "login/*"]),
            pb.CreateGroupRequest(group=pb.Group(name="g", members=["spiffe://example.org/*", "user:login/*"])),
        ),
        (
            roles.grant("r", ["a", "group:g"], ["**"], NOON, "incident", "bob", NOON - timedelta(1), ["redact:pii"]),
            pb.CreateGrantRequest(
                grant=pb.Grant(
                    members=["user:a", "group:g"],
                    role="r",
                    resources=["**"],
                    begins=Timestamp(seconds=int(NOON.timestamp()) - 86400),
                    expires=Timestamp(seconds=int(NOON.timestamp())),
                    reason="incident",
                    approver="bob",
                    obligations=["redact:pii"],
                )
            ),
        ),
        (roles.revoke("g-1", "over"), pb.RevokeGrantRequest(grant_id="g-1", reason="over")),
        (
            roles.list_grants("dns:a", "r"),
            pb.ListGrantsRequest(member="dns:a", role="r", page_size=1000),
        ),
        (
            policies.add_policy("p", "user.a == 1", "deny", ["models.*"], ["models/a"], description="d"),
            pb.CreatePolicyRequest(
                policy=pb.Policy(
                    name="p",
                    effect=pb.EFFECT_DENY,
                    condition="user.a == 1",
                    permissions=["models.*"],
                    resources=["models/a"],
                    description="d",
                )
            ),
        ),
        (
            policies.update_policy("p", version=2),
            pb.UpdatePolicyRequest(policy=pb.Policy(name="p", effect=pb.EFFECT_ALLOW, version=2)),
        ),
        (
            policies.add_policy("p", allow_lockout=True),
            pb.CreatePolicyRequest(policy=pb.Policy(name="p", effect=pb.EFFECT_ALLOW), allow_lockout=True),
        ),
        (policies.get_policy("p", 2), pb.GetPolicyRequest(name="p", version=2)),
        (
            policies.check("a", "models.read", "models/m", ["r"], {"level": 3}, {"request": {"n": 1}}, NOON),
            pb.CheckRequest(
                question=pb.Question(
                    subject=pb.Subject(principal="user:a", roles=["r"], attributes=struct(level=3)),
                    permission="models.read",
                    resource="models/m",
                    attributes=struct(request={"n": 1}),
                    time=Timestamp(seconds=int(NOON.timestamp())),
                )
            ),
        ),
        (
            policies.explain("", "models.read"),
            pb.ExplainRequest(question=pb.Question(subject=pb.Subject(), permission="models.read")),
        ),
        (
            policies.list_access("models.read", "models/m"),
            pb.ListAccessRequest(permission="models.read", resource="models/m", page_size=1000),
        ),
        (
            policies.simulate(put_policies=[policies.policy("p")], delete_roles=["r"]),
            pb.SimulateRequest(put_policies=[pb.Policy(name="p", effect=pb.EFFECT_ALLOW)], delete_roles=["r"]),
        ),
        (
            policies.simulate(delete_grants=["g"], since=NOON, most_questions=10, most_changed=5),
            pb.SimulateRequest(
                delete_grants=["g"], since=Timestamp(seconds=int(NOON.timestamp())), most_questions=10, most_changed=5
            ),
        ),
    ],
)
def test_what_is_asked(steps: Any, asked: Message) -> None:
    assert next(steps) == asked


def test_spans_count_from_now() -> None:
    before = datetime.now(UTC)
    asked: Any = next(roles.grant("r", ["a"], ["**"], timedelta(hours=1)))
    expires = asked.grant.expires.ToDatetime(UTC)
    assert before + timedelta(hours=1) <= expires <= datetime.now(UTC) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (lambda: roles.grant("r", [""], ["**"]), "expected an identity"),
        (lambda: keys.create_api_key("", ["*"]), "expected an identity"),
        (lambda: roles.grant("r", ["a"], ["**"], datetime(2030, 1, 1)), "expected a time with its zone"),
        (lambda: policies.add_policy("p", effect="permit"), "effect: expected allow or deny, came 'permit'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_meant_is_not_asked(steps: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        next(steps())


def test_many_questions_are_asked_in_parts() -> None:
    def decide(request: pb.CheckManyRequest, _: Any) -> pb.CheckManyResponse:
        decisions = [pb.Decision(reason=asked.permission) for asked in request.questions]
        return pb.CheckManyResponse(decisions=decisions)

    with answering({"CheckMany": decide}) as (server, endpoint), PolicyEngine(endpoint) as engine:
        questions = [policies.question("a", f"a.p{number}") for number in range(2500)]
        decided = engine.check_many(questions)
        assert [decision.reason for decision in decided] == [asked.permission for asked in questions]
        assert [len(heard.request.questions) for heard in server.heard] == [1000, 1000, 500]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (AuthenticationManager, AsyncAuthenticationManager),
        (RoleManager, AsyncRoleManager),
        (PolicyEngine, AsyncPolicyEngine),
        (langtrain.Sidecar, langtrain.AsyncSidecar),
    ],
)
def test_event_loops_have_the_same_calls(one: type, other: type) -> None:
    names = [name for name in dir(one) if not name.startswith("_")]
    assert names == [name for name in dir(other) if not name.startswith("_")]


def test_what_nothing_enforces_is_said_once_and_without_its_values() -> None:
    with pytest.warns(langtrain.NotEnforcedWarning) as said:
        AuthenticationManager(
            "localhost:1", mfa_required=True, sso_providers={"okta": {"client_secret": "s3cret"}}, idle_timeout="30m"
        )
    (warning,) = said
    text = "not enforced yet, for the sidecar has no sessions of people: mfa_required, sso_providers, idle_timeout"
    assert str(warning.message) == text
    assert warning.filename == __file__
    with warnings.catch_warnings(action="error"):
        AuthenticationManager("localhost:1")


@pytest.mark.parametrize("call", ["authenticate", "create_session", "start_sso", "enroll_mfa"])
@pytest.mark.parametrize("manager", [AuthenticationManager, AsyncAuthenticationManager])
def test_nothing_opens_a_session(manager: Any, call: str) -> None:
    with pytest.raises(langtrain.UnsupportedError, match="no sessions of people yet") as raised:
        getattr(manager("localhost:1"), call)("user123", password="p")
    assert raised.value.reason == "SESSIONS_UNSUPPORTED"


def test_an_issued_key_is_not_shown_by_chance() -> None:
    issued = keys.IssuedKey(keys_pb.ApiKey(key_id="abc"), "ltk_abc_secret")
    assert issued.key_id == "abc"
    assert "secret" not in f"{issued} {issued!r}"
