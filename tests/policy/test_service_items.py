"""Roles, groups, grants and policies over gRPC, on either database: made, changed, listed, gone, and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from interceptors.events import Durability, Event
from langtrain.v1 import policies_pb2 as pb
from sidecar.policy import desk as desk_module
from tests.policy.serving import ADMIN, NOW, OTHER_ADMIN, STRANGER, Client, Refused, Scene, seconds


def refused(call: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as raised:
        call()
    return raised.value


def named(found: Refused) -> tuple[str, str, list[str]]:
    return found.code, found.reason, sorted(found.fields)


def recorded(scene: Scene) -> list[tuple[Event, dict[str, Any]]]:
    """Events, and what they say of the change."""
    return [(each, json.loads(each.reason)) for each in scene.recorded]


def test_a_role_from_its_making_to_its_end(scene: Scene) -> None:
    role = pb.Role(name="fraud", permissions=["models.read"], description="for the\nfraud team")
    made = scene.admin.CreateRole(pb.CreateRoleRequest(role=role)).role
    assert (made.version, seconds(made.updated), made.source) == (1, NOW, pb.SOURCE_SERVICE)
    assert (made.permissions, made.description) == (["models.read"], "for the\nfraud team")
    assert scene.admin.GetRole(pb.GetRoleRequest(name="fraud")).role == made
    scene.now += 60
    made.permissions.append("models.train")
    changed = scene.admin.UpdateRole(pb.UpdateRoleRequest(role=made)).role
    assert (changed.version, seconds(changed.updated), list(changed.permissions)) == (
        2, NOW + 60, ["models.read", "models.train"],
    )  # fmt: skip
    again = refused(lambda: scene.admin.UpdateRole(pb.UpdateRoleRequest(role=made)))
    assert named(again) == ("ABORTED", "POLICY_VERSION", [])
    made.version = 0  # whatever is there
    assert scene.admin.UpdateRole(pb.UpdateRoleRequest(role=made)).role.version == 3
    wrong = refused(lambda: scene.admin.DeleteRole(pb.DeleteRoleRequest(name="fraud", version=2)))
    assert named(wrong) == ("ABORTED", "POLICY_VERSION", [])
    scene.admin.DeleteRole(pb.DeleteRoleRequest(name="fraud", version=3))
    for call in (
        lambda: scene.admin.GetRole(pb.GetRoleRequest(name="fraud")),
        lambda: scene.admin.DeleteRole(pb.DeleteRoleRequest(name="fraud")),
        lambda: scene.admin.UpdateRole(pb.UpdateRoleRequest(role=made)),
    ):
        assert named(refused(call)) == ("NOT_FOUND", "POLICY_NOT_FOUND", [])
    assert [(each.kind, told["before"], told["after"], told.get("changed")) for each, told in recorded(scene)] == [
        ("role.created", 0, 1, None),
        ("role.updated", 1, 2, ["permissions"]),
        ("role.updated", 2, 3, []),
        ("role.deleted", 3, 0, None),
    ]
    assert {(each.durability, each.principal, each.source, each.tenant) for each in scene.recorded} == {
        (Durability.COMMIT, ADMIN.name, ADMIN.source, "default")
    }


def test_a_group_makes_members(scene: Scene) -> None:
    group = scene.admin.group("team", "user:corp/ada")
    scene.admin.grant("group:team", "builtin.ml_engineer", "models/fraud-*")
    assert scene.admin.may("user:corp/ada", "models.train")
    assert not scene.admin.may("user:corp/ben", "models.train")
    group.members.append("user:corp/b*")
    assert scene.admin.UpdateGroup(pb.UpdateGroupRequest(group=group)).group.version == 2
    assert scene.admin.may("user:corp/ben", "models.train")
    scene.admin.DeleteGroup(pb.DeleteGroupRequest(name="team", force=True))
    assert not scene.admin.may("user:corp/ben", "models.train")
    assert named(refused(lambda: scene.admin.GetGroup(pb.GetGroupRequest(name="team"))))[0] == "NOT_FOUND"


def test_a_grant_ends_by_itself_or_is_revoked(scene: Scene) -> None:
    grant = scene.admin.grant(
        "user:corp/ada", "builtin.ml_engineer", "models/fraud-*", begins=Timestamp(seconds=int(NOW) - 10),
        expires=Timestamp(seconds=int(NOW) + 100), reason="on call", approver="user:corp/ben",
        obligations=["redact:pii"],
    )  # fmt: skip
    assert len(grant.grant_id) == 36
    assert grant.grant_id[14] == "7"  # RFC 9562: of version 7
    assert (seconds(grant.created), grant.creator, grant.source) == (NOW, ADMIN.name, pb.SOURCE_SERVICE)
    assert scene.admin.GetGrant(pb.GetGrantRequest(grant_id=grant.grant_id)).grant == grant
    assert scene.admin.may("user:corp/ada", "models.train")
    scene.now += 100
    assert not scene.admin.may("user:corp/ada", "models.train")
    request = pb.RevokeGrantRequest(grant_id=grant.grant_id, reason="left")
    scene.admin.RevokeGrant(request)
    assert named(refused(lambda: scene.admin.RevokeGrant(request)))[0] == "NOT_FOUND"
    assert [(each.kind, told["name"], told.get("reason")) for each, told in recorded(scene)] == [
        ("grant.created", grant.grant_id, None), ("grant.revoked", grant.grant_id, "left"),
    ]  # fmt: skip


def test_what_a_policy_has_been_stays(scene: Scene) -> None:
    policy = scene.admin.policy("late", "user.level < 3", description="first")
    for at in range(3):
        policy.condition, policy.description = f"user.level < {at}", f"then {at}"
        policy = scene.admin.UpdatePolicy(pb.UpdatePolicyRequest(policy=policy, allow_lockout=True)).policy
    assert (policy.version, policy.updater, policy.effect) == (4, ADMIN.name, pb.EFFECT_DENY)
    scene.admin.DeletePolicy(pb.DeletePolicyRequest(name="late", version=4))
    request = pb.ListPolicyVersionsRequest(name="late", page_size=3)
    page = scene.admin.ListPolicyVersions(request)
    assert [(each.version, each.condition, each.description) for each in page.policies] == [
        (4, "user.level < 2", "then 2"), (3, "user.level < 1", "then 1"), (2, "user.level < 0", "then 0"),
    ]  # fmt: skip
    rest = scene.admin.ListPolicyVersions(pb.ListPolicyVersionsRequest(name="late", page_token=page.next_page_token))
    assert [(each.version, each.description) for each in rest.policies] == [(1, "first")]
    assert rest.next_page_token == ""
    assert scene.admin.GetPolicy(pb.GetPolicyRequest(name="late", version=2)).policy.description == "then 0"
    assert named(refused(lambda: scene.admin.GetPolicy(pb.GetPolicyRequest(name="late"))))[0] == "NOT_FOUND"
    assert scene.admin.policy("late", "true").version == 5  # so that no record is of two policies
    assert [each.kind for each in scene.recorded] == [
        "policy.created", *["policy.updated"] * 3, "policy.deleted", "policy.created",
    ]  # fmt: skip


def test_versions_are_kept_to_a_number(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.policy.store_sql.VERSIONS_KEPT", 2)
    policy = scene.admin.policy("p", "true")
    for _ in range(3):
        policy = scene.admin.UpdatePolicy(pb.UpdatePolicyRequest(policy=policy)).policy
    found = scene.admin.ListPolicyVersions(pb.ListPolicyVersionsRequest(name="p")).policies
    assert [each.version for each in found] == [4, 3]


def test_what_is_done_once_is_answered_again(scene: Scene) -> None:
    first = scene.admin.role("fraud", "models.read", idempotency_key="k")
    assert scene.admin.role("fraud", "models.read", idempotency_key="k") == first
    grant = pb.Grant(members=["user:corp/ada"], role="fraud", resources=["**"])
    made = [scene.admin.CreateGrant(pb.CreateGrantRequest(grant=grant, idempotency_key="g")).grant for _ in range(2)]
    assert made[0] == made[1]
    first.permissions.append("models.train")
    changed = [scene.admin.UpdateRole(pb.UpdateRoleRequest(role=first, idempotency_key="u")).role for _ in range(2)]
    assert [each.version for each in changed] == [2, 2]
    assert [each.kind for each in scene.recorded] == ["role.created", "grant.created", "role.updated"]
    other = refused(lambda: scene.admin.role("fraud", "models.train", idempotency_key="k"))
    assert named(other) == ("INVALID_ARGUMENT", "IDEMPOTENCY_KEY_REUSED", [])
    assert named(refused(lambda: scene.admin.role("x", "models.read", idempotency_key="é"))) == (
        "INVALID_ARGUMENT", "REQUEST_INVALID", ["idempotency_key"],
    )  # fmt: skip
    assert named(refused(lambda: scene.admin.role("fraud", "models.read"))) == ("ALREADY_EXISTS", "POLICY_EXISTS", [])
    scene.admin.DeleteRole(pb.DeleteRoleRequest(name="fraud", force=True))
    gone = refused(lambda: scene.admin.role("fraud", "models.read", idempotency_key="k"))
    assert gone.code == "NOT_FOUND"  # what was done then is no more, and is not done again


def test_what_cannot_be_recorded_is_no_answer(scene: Scene) -> None:
    scene.unrecorded = True
    for _ in range(2):  # the second time it is there, and still not recorded
        failed = refused(lambda: scene.admin.role("fraud", "models.read", idempotency_key="k"))
        assert (failed.code, failed.reason) == ("UNAVAILABLE", "STATE_UNRECORDED")
    scene.unrecorded = False
    assert scene.admin.role("fraud", "models.read", idempotency_key="k").version == 1
    assert [event.kind for event in scene.recorded] == ["role.created"]


@pytest.mark.parametrize("writers", [2, 6])
def test_of_writers_of_one_version_one_succeeds(scene: Scene, writers: int) -> None:
    policy = scene.admin.policy("p", "true")
    start, outcomes = Barrier(writers), []

    def write(at: int) -> None:
        mine = pb.Policy()
        mine.CopyFrom(policy)
        mine.description = f"of {at}"
        start.wait(30)
        try:
            outcomes.append(scene.admin.UpdatePolicy(pb.UpdatePolicyRequest(policy=mine)).policy.description)
        except Refused as error:
            outcomes.append(error.reason)

    threads = [Thread(target=write, args=(at,)) for at in range(writers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    (won,) = [each for each in outcomes if each != "POLICY_VERSION"]
    assert len(outcomes) == writers
    there = scene.admin.GetPolicy(pb.GetPolicyRequest(name="p")).policy
    assert (there.version, there.description) == (2, won)


def listed(client: Client, method: str, field: str, request: Any, most: int) -> list[Any]:
    """All pages, each of `most` at most."""
    found: list[Any] = []
    request.page_size = most
    while True:
        page = getattr(client, method)(request)
        items = list(getattr(page, field))
        assert len(items) <= most
        found += items
        if not page.next_page_token:
            return found
        assert len(items) == most
        request.page_token = page.next_page_token


@pytest.mark.parametrize("most", [1, 2, 3, 5, 1000])
def test_lists_come_in_pages(scene: Scene, most: int) -> None:
    for name in ("b", "a", "d", "c"):
        scene.admin.role(name, "models.read")
        scene.admin.group(name, "user:corp/ada")
        scene.admin.policy(name, "true")
        scene.admin.grant("user:corp/ada" if name < "c" else "group:a", name, grant_id=name)
    roles = listed(scene.admin, "ListRoles", "roles", pb.ListRolesRequest(), most)
    builtin = [
        "builtin.admin", "builtin.data_scientist", "builtin.ml_engineer", "builtin.security_officer", "builtin.viewer",
    ]  # fmt: skip
    assert [each.name for each in roles] == [*builtin, "a", "b", "c", "d"]
    assert [each.source for each in roles] == [pb.SOURCE_BUILTIN] * 5 + [pb.SOURCE_SERVICE] * 4
    groups = listed(scene.admin, "ListGroups", "groups", pb.ListGroupsRequest(), most)
    assert [each.name for each in groups] == ["a", "b", "c", "d"]
    policies = listed(scene.admin, "ListPolicies", "policies", pb.ListPoliciesRequest(), most)
    assert [each.name for each in policies] == ["a", "b", "c", "d"]

    def grants(**only: Any) -> list[str]:
        found = listed(scene.admin, "ListGrants", "grants", pb.ListGrantsRequest(**only), most)
        return [each.grant_id for each in found]

    assert grants() == ["config.bootstrap_admins", "a", "b", "c", "d"]
    assert grants(member="user:corp/ada") == ["a", "b"]
    assert grants(member="group:a", role="d") == ["d"]
    assert grants(role="builtin.admin") == grants(member=ADMIN.name) == ["config.bootstrap_admins"]
    assert grants(member="user:corp/ben") == []


def test_a_page_is_no_longer_than_an_answer_may_be(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "LARGEST_PAGE", 1_000)
    names = [f"g{at}" for at in range(6)]
    for name in names:
        scene.admin.group(name, *(f"user:corp/{'x' * 190}{at}" for at in range(2 if name != "g2" else 9)))
    request, pages = pb.ListGroupsRequest(), []
    while True:
        page = scene.admin.ListGroups(request)
        pages.append([each.name for each in page.groups])
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert pages == [["g0", "g1"], ["g2"], ["g3", "g4"], ["g5"]]


def test_what_another_tenant_has_is_not_there(scene: Scene) -> None:
    scene.admin.role("fraud", "models.read")
    scene.admin.policy("p", "true")
    other = scene.client(OTHER_ADMIN)
    for call in (
        lambda: other.GetRole(pb.GetRoleRequest(name="fraud")),
        lambda: other.DeleteRole(pb.DeleteRoleRequest(name="fraud")),
        lambda: other.GetPolicy(pb.GetPolicyRequest(name="p", version=1)),
        lambda: other.ListPolicyVersions(pb.ListPolicyVersionsRequest(name="p")),
        lambda: other.GetGrant(pb.GetGrantRequest(grant_id="config.bootstrap_admins")),
    ):
        assert named(refused(call)) == ("NOT_FOUND", "POLICY_NOT_FOUND", [])
    assert [each.name for each in other.ListRoles(pb.ListRolesRequest()).roles if each.source == 1] == []
    assert list(other.ListGrants(pb.ListGrantsRequest()).grants) == []
    other.role("fraud", "models.deploy")
    assert scene.admin.GetRole(pb.GetRoleRequest(name="fraud")).role.permissions == ["models.read"]
    beyond = refused(lambda: other.grant("user:other/x", "fraud", "tenants/default/models/m"))
    assert named(beyond) == ("INVALID_ARGUMENT", "REQUEST_INVALID", ["grant.resources[0]"])
    scene.client(STRANGER).DeleteRole(pb.DeleteRoleRequest(name="fraud"))  # whoever may is settled before
    assert scene.admin.GetRole(pb.GetRoleRequest(name="fraud")).role.version == 1


@pytest.mark.parametrize("name", ["config.bootstrap_admins", "builtin.viewer"])
def test_what_is_not_the_stores_is_not_changed(scene: Scene, name: str) -> None:
    for call in (
        lambda: scene.admin.UpdateRole(pb.UpdateRoleRequest(role=pb.Role(name=name, permissions=["models.read"]))),
        lambda: scene.admin.DeleteRole(pb.DeleteRoleRequest(name=name)),
        lambda: scene.admin.RevokeGrant(pb.RevokeGrantRequest(grant_id=name)),
    ):
        assert named(refused(call)) == ("FAILED_PRECONDITION", "POLICY_UNCHANGEABLE", [])
    assert named(refused(lambda: scene.admin.role(name, "models.read")))[2] == ["role.name"]
    assert named(refused(lambda: scene.admin.grant("user:a/b", "builtin.viewer", grant_id=name)))[2] == [
        "grant.grant_id"
    ]


def test_there_are_only_so_many(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(desk_module.MOST, "role", 2)
    scene.admin.role("a", "models.read")
    scene.admin.role("b", "models.read")
    full = refused(lambda: scene.admin.role("c", "models.read"))
    assert named(full) == ("RESOURCE_EXHAUSTED", "POLICY_TOO_MANY", [])
    scene.client(OTHER_ADMIN).role("c", "models.read")
    scene.admin.DeleteRole(pb.DeleteRoleRequest(name="a"))
    scene.admin.role("c", "models.read")


def test_indexes_have_room_for_so_much(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "MOST_PLACES", 7)  # of which the config's grant takes one
    group = scene.admin.group("team", "user:corp/a", "user:corp/b")
    scene.admin.grant("group:team", "builtin.viewer", "models/a", "models/b", grant_id="g")
    group.members.extend(["user:corp/c", "user:corp/d"])
    group = scene.admin.UpdateGroup(pb.UpdateGroupRequest(group=group)).group
    for call in (
        lambda: scene.admin.role("r", "models.read"),
        lambda: scene.admin.UpdateGroup(pb.UpdateGroupRequest(group=pb.Group(name="team", members=SEVEN))),
    ):
        assert named(refused(call)) == ("RESOURCE_EXHAUSTED", "POLICY_TOO_MANY", [])
    scene.client(OTHER_ADMIN).role("r", "models.read")
    scene.admin.RevokeGrant(pb.RevokeGrantRequest(grant_id="g"))
    scene.admin.role("r", "models.read")


SEVEN = [f"user:corp/{letter}" for letter in "abcdefg"]
LONG = "x" * 1025
SURELY = {
    "CreateRole": pb.CreateRoleRequest(role=pb.Role(name="r", permissions=["models.read"])),
    "CreateGroup": pb.CreateGroupRequest(group=pb.Group(name="g", members=["user:a/b"])),
    "CreateGrant": pb.CreateGrantRequest(
        grant=pb.Grant(grant_id="g", members=["user:a/b"], role="builtin.viewer", resources=["**"])
    ),
    "CreatePolicy": pb.CreatePolicyRequest(
        policy=pb.Policy(name="p", effect=pb.EFFECT_DENY, condition="true", permissions=["models.*"])
    ),
}
AGES_AGO, NEVER = Timestamp(seconds=-62_135_596_801), Timestamp(seconds=253_402_300_800)


@pytest.mark.parametrize(
    ("method", "wrong", "fields"),
    [
        ("CreateRole", {"name": ""}, ["role.name"]),
        ("CreateRole", {"name": "a/b"}, ["role.name"]),
        ("CreateRole", {"name": "builtin.x"}, ["role.name"]),
        ("CreateRole", {"name": "config.x"}, ["role.name"]),
        ("CreateRole", {"permissions": []}, ["role.permissions"]),
        ("CreateRole", {"permissions": ["models.read", "x", "A.b"]}, ["role.permissions[1]", "role.permissions[2]"]),
        ("CreateRole", {"permissions": ["models.read"] * 1025}, ["role.permissions"]),
        ("CreateRole", {"description": LONG}, ["role.description"]),
        ("CreateRole", {"description": "a\0b", "name": "é"}, ["role.description", "role.name"]),
        ("CreateGroup", {"name": "a b"}, ["group.name"]),
        ("CreateGroup", {"name": "config.x"}, ["group.name"]),
        ("CreateGroup", {"members": []}, ["group.members"]),
        ("CreateGroup", {"members": ["alice", "group:g"]}, ["group.members[0]", "group.members[1]"]),
        ("CreateGroup", {"members": ["user:a\0b"]}, ["group.members[0]"]),
        ("CreateGroup", {"members": [f"user:{'x' * 1000}{at}" for at in range(70)]}, ["group"]),
        ("CreateGroup", {"description": LONG}, ["group.description"]),
        ("CreateGroup", {"members": ["user:a/b", "key:abc"]}, ["group.members[1]"]),
        ("CreateGrant", {"grant_id": "a/b"}, ["grant.grant_id"]),
        ("CreateGrant", {"members": ["key:*"]}, ["grant.members[0]"]),
        (
            "CreateGrant",
            {"members": [f"user:a/{at}" for at in range(101)], "resources": [f"models/{at}" for at in range(100)]},
            ["grant.members"],
        ),
        (
            "CreateGrant",
            {"resources": ["models/a%00", f"models/{'m' * 257}"]},
            ["grant.resources[0]", "grant.resources[1]"],
        ),
        ("CreateGrant", {"members": ["alice", "group:"]}, ["grant.members[0]", "grant.members[1]"]),
        ("CreateGrant", {"members": ["user:a/b", "group:missing"]}, ["grant.members[1]"]),
        ("CreateGrant", {"role": ""}, ["grant.role"]),
        ("CreateGrant", {"role": "missing"}, ["grant.role"]),
        ("CreateGrant", {"role": "builtin.missing"}, ["grant.role"]),
        ("CreateGrant", {"resources": []}, ["grant.resources"]),
        ("CreateGrant", {"resources": ["models", "tenants/x/models/m"]}, ["grant.resources[0]", "grant.resources[1]"]),
        ("CreateGrant", {"begins": AGES_AGO}, ["grant.begins"]),
        ("CreateGrant", {"begins": Timestamp(seconds=-1)}, ["grant.begins"]),
        ("CreateGrant", {"expires": NEVER}, ["grant.expires"]),
        ("CreateGrant", {"expires": Timestamp(seconds=int(NOW))}, ["grant.expires"]),
        (
            "CreateGrant",
            {"begins": Timestamp(seconds=int(NOW) + 9), "expires": Timestamp(seconds=int(NOW) + 9)},
            ["grant.expires"],
        ),
        ("CreateGrant", {"reason": LONG}, ["grant.reason"]),
        ("CreateGrant", {"approver": "a\0b"}, ["grant.approver"]),
        ("CreateGrant", {"obligations": ["", " x"]}, ["grant.obligations"]),
        ("CreatePolicy", {"name": "-"}, ["policy.name"]),
        ("CreatePolicy", {"effect": pb.EFFECT_UNSPECIFIED}, ["policy.effect"]),
        ("CreatePolicy", {"effect": 7}, ["policy.effect"]),
        ("CreatePolicy", {"condition": "user.level >"}, ["policy.condition"]),
        ("CreatePolicy", {"condition": "nobody.level > 1"}, ["policy.condition"]),
        ("CreatePolicy", {"permissions": ["x"]}, ["policy.permissions[0]"]),
        ("CreatePolicy", {"resources": ["models"]}, ["policy.resources[0]"]),
        ("CreatePolicy", {"obligations": ["redact:pii"]}, ["policy.obligations"]),
        ("CreatePolicy", {"description": "\x1b[0m"}, ["policy.description"]),
    ],
)
def test_each_field_at_fault_is_named(alone: Scene, method: str, wrong: dict[str, Any], fields: list[str]) -> None:
    request = type(SURELY[method])()
    request.CopyFrom(SURELY[method])
    item = getattr(request, method.removeprefix("Create").lower())
    for field, value in wrong.items():
        item.ClearField(field)
        if isinstance(value, list):
            getattr(item, field).extend(value)
        elif isinstance(value, Timestamp):
            getattr(item, field).CopyFrom(value)
        else:
            setattr(item, field, value)
    found = refused(lambda: getattr(alone.admin, method)(request))
    assert named(found) == ("INVALID_ARGUMENT", "REQUEST_INVALID", fields)
    assert all("expected" in text or "there is no" in text or "reserved" in text or "past" in text
               for text in found.fields.values()), found.fields  # fmt: skip
    assert alone.recorded == []


def test_what_has_no_fault_is_taken(scene: Scene) -> None:
    for method, request in SURELY.items():
        getattr(scene.admin, method)(request)
    assert len(scene.recorded) == len(SURELY)


@pytest.mark.parametrize(
    ("method", "request_", "code", "fields"),
    [
        ("UpdateRole", pb.UpdateRoleRequest(role=pb.Role(permissions=["a.b"])), "INVALID_ARGUMENT", ["role.name"]),
        ("UpdateRole", pb.UpdateRoleRequest(role=pb.Role(name="r", permissions=["a.b"], version=-1)),
         "INVALID_ARGUMENT", ["role.version"]),
        ("UpdateGroup", pb.UpdateGroupRequest(group=pb.Group(name="g", members=["x"])),
         "INVALID_ARGUMENT", ["group.members[0]"]),
        ("UpdatePolicy", pb.UpdatePolicyRequest(policy=pb.Policy(name="p", condition=")", version=-7)),
         "INVALID_ARGUMENT", ["policy.version"]),
        ("DeleteRole", pb.DeleteRoleRequest(name="r", version=-1), "INVALID_ARGUMENT", ["version"]),
        ("DeleteRole", pb.DeleteRoleRequest(name="a/b"), "NOT_FOUND", []),
        ("DeleteGroup", pb.DeleteGroupRequest(name="\0"), "NOT_FOUND", []),
        ("RevokeGrant", pb.RevokeGrantRequest(grant_id="g", reason=LONG), "INVALID_ARGUMENT", ["reason"]),
        ("RevokeGrant", pb.RevokeGrantRequest(grant_id=LONG), "NOT_FOUND", []),
        ("GetRole", pb.GetRoleRequest(name="a\0b"), "NOT_FOUND", []),
        ("GetPolicy", pb.GetPolicyRequest(name="p", version=-1), "INVALID_ARGUMENT", ["version"]),
        ("GetPolicy", pb.GetPolicyRequest(name="p", version=9), "NOT_FOUND", []),
        ("ListRoles", pb.ListRolesRequest(page_size=1001), "INVALID_ARGUMENT", ["page_size"]),
        ("ListRoles", pb.ListRolesRequest(page_size=-1), "INVALID_ARGUMENT", ["page_size"]),
        ("ListRoles", pb.ListRolesRequest(page_token="a/b"), "INVALID_ARGUMENT", ["page_token"]),
        ("ListGroups", pb.ListGroupsRequest(page_token="\0"), "INVALID_ARGUMENT", ["page_token"]),
        ("ListGrants", pb.ListGrantsRequest(member="a\0b", role="*"), "INVALID_ARGUMENT", ["member", "role"]),
        ("ListPolicyVersions", pb.ListPolicyVersionsRequest(name="p", page_token="x"),
         "INVALID_ARGUMENT", ["page_token"]),
        ("ListPolicyVersions", pb.ListPolicyVersionsRequest(name="missing"), "NOT_FOUND", []),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said(alone: Scene, method: str, request_: Any, code: str, fields: list[str]) -> None:
    found = refused(lambda: getattr(alone.admin, method)(request_))
    assert (found.code, sorted(found.fields)) == (code, fields)
    assert alone.recorded == []
