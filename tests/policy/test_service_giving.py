"""Nobody gives what he does not have, over gRPC."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from langtrain.v1 import policies_pb2 as pb
from sidecar.internal.mac import Caller
from sidecar.policy.bootstrap import bootstrap
from tests.policy.serving import ADMIN, BOB, NOW, OTHER_ADMIN, Refused, Scene

ESCALATION = ("PERMISSION_DENIED", "POLICY_ESCALATION")


def denied(call: Callable[[], Any]) -> dict[str, str]:
    with pytest.raises(Refused) as raised:
        call()
    assert (raised.value.code, raised.value.reason) == ESCALATION
    return raised.value.fields


def test_who_has_nothing_gives_nothing(scene: Scene) -> None:
    """Whoever a rule of the config lets call the methods, say."""
    assert denied(lambda: scene.bob.role("mine", "models.read")) == {"role": "gives models.read, which you do not have"}
    denied(lambda: scene.bob.grant(BOB.name, "builtin.admin"))
    scene.bob.group("ours", "user:corp/ada")  # which nothing is granted to
    scene.admin.grant("group:ours", "builtin.viewer")
    group = pb.Group(name="ours", members=[BOB.name, "user:corp/ada"])
    denied(lambda: scene.bob.UpdateGroup(pb.UpdateGroupRequest(group=group)))
    scene.bob.policy("careful", "user.level < 3")  # whoever may write policies takes, and does not give
    assert [each.kind for each in scene.recorded] == ["group.created", "grant.created", "policy.created"]


def test_the_first_administrator_gives_all_but_what_must_be_named(scene: Scene) -> None:
    scene.admin.role("all", "*", "roles.write", "groups.write", "grants.write", "policies.write")
    scene.admin.grant(BOB.name, "all")
    scene.bob.grant("user:corp/ada", "all")
    for permission in ("models.load_files", "models.shared_memory", "api_keys.create", "upstream.unknown"):
        assert permission in str(denied(partial(scene.admin.role, "more", "models.*", permission)))
    scene.live.configure(bootstrap([]))
    denied(lambda: scene.admin.role("later", "models.read"))


def test_what_is_had_on_some_resources_is_given_on_those(scene: Scene) -> None:
    until = Timestamp(seconds=int(NOW) + 100)
    scene.admin.grant(BOB.name, "builtin.ml_engineer", "models/fraud-*", expires=until, obligations=["redact:pii"])
    given = {"expires": until, "obligations": ["redact:pii", "require:mfa"]}
    scene.bob.grant("user:corp/ada", "builtin.ml_engineer", "models/fraud-1", **given)
    scene.bob.grant("user:corp/ada", "builtin.viewer", "models/fraud-*", **given)
    for wrong in (
        lambda: scene.bob.grant("user:corp/ada", "builtin.viewer", "models/spam", **given),
        lambda: scene.bob.grant("user:corp/ada", "builtin.viewer", "**", **given),
        lambda: scene.bob.grant("user:corp/ada", "builtin.data_scientist", "models/fraud-1", **given),
        lambda: scene.bob.grant("user:corp/ada", "builtin.viewer", "models/fraud-1", obligations=["redact:pii"]),
        lambda: scene.bob.grant("user:corp/ada", "builtin.viewer", "models/fraud-1", expires=until),
        lambda: scene.bob.role("everywhere", "models.read"),
    ):
        denied(wrong)
    scene.now += 100
    denied(lambda: scene.bob.grant("user:corp/ada", "builtin.viewer", "models/fraud-1", obligations=["redact:pii"]))


def test_to_take_away_nothing_must_be_had(scene: Scene) -> None:
    role = scene.admin.role("ml", "models.*", "datasets.read")
    group = scene.admin.group("team", "user:corp/ada", "user:corp/ben")
    grant = scene.admin.grant("group:team", "ml")
    del role.permissions[1:]
    assert scene.bob.UpdateRole(pb.UpdateRoleRequest(role=role)).role.version == 2
    role.permissions.append("datasets.read")
    role.version = 2
    denied(lambda: scene.bob.UpdateRole(pb.UpdateRoleRequest(role=role)))
    del group.members[1:]
    scene.bob.UpdateGroup(pb.UpdateGroupRequest(group=group))
    scene.bob.RevokeGrant(pb.RevokeGrantRequest(grant_id=grant.grant_id))
    scene.admin.grant("group:team", "ml")
    scene.bob.DeleteRole(pb.DeleteRoleRequest(name="ml", force=True))
    scene.bob.DeleteGroup(pb.DeleteGroupRequest(name="team"))


def test_roles_that_a_token_asserts_count_and_are_of_its_tenant_alone(scene: Scene) -> None:
    other = scene.client(OTHER_ADMIN)
    other.grant("user:other/x", "builtin.viewer")
    vouched = scene.client(Caller("user", "user:corp/dora", "default", "", ("builtin.viewer",)))
    vouched.role("reader", "models.read")
    denied(lambda: vouched.role("trainer", "models.train"))
    same_name = scene.client(Caller("spiffe", ADMIN.name, "other"))
    denied(lambda: same_name.role("mine", "models.read"))


def test_what_was_taken_a_moment_ago_is_not_given(scene: Scene) -> None:
    grant = scene.admin.grant(BOB.name, "builtin.viewer")
    scene.bob.role("reader", "models.read")
    scene.admin.RevokeGrant(pb.RevokeGrantRequest(grant_id=grant.grant_id))
    denied(lambda: scene.bob.role("again", "models.read"))
