"""Roles and groups that are deleted: no grant is left that names one, and so none comes to life again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Barrier, Thread

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from langtrain.v1 import policies_pb2 as pb
from sidecar.policy import desk as desk_module
from sidecar.policy import rows
from sidecar.policy.asked import InUseError, NotFoundError
from sidecar.policy.model import Grant, Group, Role
from sidecar.policy.store_sql import PolicyReading, PolicyStore, Stored
from sidecar.state.changes import changes_since
from sidecar.state.store import DatabaseStore
from tests.policy.serving import ADMIN, NOW, Refused, Scene
from tests.policy.test_desk import Sidecar, asked, one, other

__all__ = ["one", "other"]
ADA, BEN = "user:corp/ada", "user:corp/ben"


def in_use(call: Callable[[], object]) -> dict[str, str]:
    with pytest.raises(Refused) as raised:
        call()
    assert (raised.value.code, raised.value.reason) == ("FAILED_PRECONDITION", "POLICY_IN_USE")
    return raised.value.fields


def grants(scene: Scene) -> list[pb.Grant]:
    return list(scene.admin.ListGrants(pb.ListGrantsRequest()).grants)[1:]  # but for the config's


def test_a_role_that_is_granted_is_not_deleted(scene: Scene) -> None:
    scene.admin.role("ml", "models.read")
    scene.admin.role("mlops", "models.read")
    made = [scene.admin.grant(member, "ml").grant_id for member in (ADA, BEN)]
    scene.admin.grant(ADA, "mlops")
    fields = in_use(lambda: scene.admin.DeleteRole(pb.DeleteRoleRequest(name="ml")))
    assert fields == {"name": "2 grants name role/default/ml: revoke them, or set force"}
    assert scene.admin.may(BEN, "models.read")
    for each in made:
        scene.admin.RevokeGrant(pb.RevokeGrantRequest(grant_id=each))
    scene.admin.DeleteRole(pb.DeleteRoleRequest(name="ml"))
    assert [each.role for each in grants(scene)] == ["mlops"]


def test_with_force_its_grants_go_along_and_stay_gone(scene: Scene, store: DatabaseStore) -> None:
    scene.admin.role("ml", "models.read")
    ids = sorted(scene.admin.grant(member, "ml").grant_id for member in (ADA, BEN))
    kept = scene.admin.grant(ADA, "builtin.viewer", "models/other").grant_id
    before = store.read(lambda reading: reading.head().sequence)
    recorded = len(scene.recorded)
    scene.admin.DeleteRole(pb.DeleteRoleRequest(name="ml", force=True))
    assert [each.grant_id for each in grants(scene)] == [kept]
    changes = store.read(partial(changes_since, sequence=before))
    assert [(each.key, each.body) for each in changes] == [
        *((f"grant/default/{each}", b"") for each in ids), ("role/default/ml", b""),
    ]  # fmt: skip
    assert [(each.kind, each.principal) for each in scene.recorded[recorded:]] == [
        ("grant.revoked", ADMIN.name), ("grant.revoked", ADMIN.name), ("role.deleted", ADMIN.name),
    ]  # fmt: skip
    scene.admin.role("ml", "models.*")
    assert not scene.admin.may(BEN, "models.read")
    assert not scene.admin.may(ADA, "models.train")


def test_what_is_past_does_not_hold_it_up_and_goes_too(scene: Scene) -> None:
    scene.admin.role("ml", "models.read")
    scene.admin.grant(ADA, "ml", expires=Timestamp(seconds=int(NOW) + 10))
    scene.now += 9
    assert in_use(lambda: scene.admin.DeleteRole(pb.DeleteRoleRequest(name="ml")))
    scene.now += 1
    scene.admin.DeleteRole(pb.DeleteRoleRequest(name="ml"))
    assert grants(scene) == []


def test_a_group_is_taken_out_of_grants_to_others_too(scene: Scene) -> None:
    scene.admin.group("team", BEN)
    alone = scene.admin.grant("group:team", "builtin.viewer", "models/a")
    shared = pb.Grant(members=["group:team", ADA], role="builtin.viewer", resources=["models/b"])
    shared = scene.admin.CreateGrant(pb.CreateGrantRequest(grant=shared)).grant
    fields = in_use(lambda: scene.admin.DeleteGroup(pb.DeleteGroupRequest(name="team")))
    assert fields == {"name": "2 grants name group/default/team: revoke them, or set force"}
    recorded = len(scene.recorded)
    scene.admin.DeleteGroup(pb.DeleteGroupRequest(name="team", force=True))
    (left,) = grants(scene)
    assert (left.grant_id, list(left.members), left.creator) == (shared.grant_id, [ADA], ADMIN.name)
    assert sorted(each.kind for each in scene.recorded[recorded:]) == [
        "grant.revoked", "grant.updated", "group.deleted",
    ]  # fmt: skip
    assert not scene.admin.ListGrants(pb.ListGrantsRequest(member="group:team")).grants
    scene.admin.group("team", BEN)
    assert not scene.admin.may(BEN, "models.read", "models/a")
    assert not scene.admin.may(BEN, "models.read", "models/b")
    assert scene.admin.may(ADA, "models.read", "models/b")
    assert alone.grant_id not in [each.grant_id for each in grants(scene)]


@pytest.mark.parametrize("what", ["role", "group"])
def test_only_so_much_goes_along(scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(desk_module, "LARGEST_ALONG", 1_000)
    scene.admin.role("ml", "models.read")
    scene.admin.group("team", BEN)
    scene.admin.grant("group:team", "ml", *(f"models/{'m' * 90}-{at}" for at in range(10)))

    def delete() -> None:
        if what == "role":
            scene.admin.DeleteRole(pb.DeleteRoleRequest(name="ml", force=True))
        else:
            scene.admin.DeleteGroup(pb.DeleteGroupRequest(name="team", force=True))

    assert "revoke some first" in in_use(delete)["name"]
    monkeypatch.undo()
    delete()
    assert grants(scene) == []


def test_only_so_many_go_along(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "MOST_ALONG", 2)
    scene.admin.role("ml", "models.read")
    ids = [scene.admin.grant(f"user:corp/{at}", "ml").grant_id for at in range(3)]
    fields = in_use(lambda: scene.admin.DeleteRole(pb.DeleteRoleRequest(name="ml", force=True)))
    most = "at most 2 of 2 MiB together go along with it"
    assert fields == {"name": f"3 grants of 0.0 MiB name role/default/ml, revoke some first: {most}"}
    assert len(grants(scene)) == 3
    scene.admin.RevokeGrant(pb.RevokeGrantRequest(grant_id=ids[1]))
    scene.admin.DeleteRole(pb.DeleteRoleRequest(name="ml", force=True))
    assert grants(scene) == []


@pytest.mark.parametrize(
    ("left", "new"),
    [
        (Grant("left", (ADA,), "ml", ("**",)), Role("ml", ("models.read",))),
        (Grant("left", (ADA, "group:team"), "builtin.viewer", ("**",)), Group("team", (BEN,))),
    ],
)
def test_what_an_earlier_version_left_behind_is_not_brought_to_life(
    one: Sidecar, store: DatabaseStore, left: Grant, new: Role | Group
) -> None:
    store.write(lambda transaction: PolicyStore(transaction).put(Stored(left)))
    with pytest.raises(InUseError, match="grant 'left' still names one that was deleted, revoke it first"):
        one.desk.create(asked(), new)
    one.desk.remove(asked(), "grant", "left")
    one.desk.create(asked(), new)


def test_a_grant_beside_the_deletion_of_its_role_is_decided_again(one: Sidecar, other: Sidecar) -> None:
    grant = Grant("g", (ADA,), "ml", ("**",))
    other.desk.create(asked(), Role("ml", ("models.read",)))
    one.live.meanwhile = [lambda: other.desk.remove(asked(), "role", "ml")]
    with pytest.raises(Exception, match="there is no role 'ml'"):
        one.desk.create(asked(), grant)
    other.desk.create(asked(), Role("ml", ("models.read",)))
    one.live.meanwhile = [lambda: other.desk.create(asked(), grant)]
    with pytest.raises(InUseError):
        one.desk.remove(asked(), "role", "ml")
    one.live.meanwhile = [lambda: other.desk.create(asked(), Grant("h", (BEN,), "ml", ("**",)))]
    one.desk.remove(asked(), "role", "ml", force=True)
    assert orphans(one) == []


def test_a_grant_beside_the_deletion_of_its_group_is_decided_again(one: Sidecar, other: Sidecar) -> None:
    grant = Grant("g", (ADA, "group:team"), "builtin.viewer", ("**",))
    other.desk.create(asked(), Group("team", (BEN,)))
    one.live.meanwhile = [lambda: other.desk.remove(asked(), "group", "team")]
    with pytest.raises(Exception, match="there is no group 'team'"):
        one.desk.create(asked(), grant)
    other.desk.create(asked(), Group("team", (BEN,)))
    one.live.meanwhile = [lambda: other.desk.create(asked(), grant)]
    with pytest.raises(InUseError):
        one.desk.remove(asked(), "group", "team")
    one.desk.remove(asked(), "group", "team", force=True)
    left = one.desk.get(asked(), "grant", "g").item
    assert isinstance(left, Grant)
    assert left.members == (ADA,)


def orphans(sidecar: Sidecar) -> list[str]:
    """Grants that name a role which there is not."""
    with sidecar.live.engine("default") as engine:
        snapshot = engine.tables.snapshot()
    roles = {role.name for role in snapshot.roles}
    return [grant.id for grant in snapshot.grants if not grant.role.startswith("builtin.") and grant.role not in roles]


@pytest.mark.parametrize("force", [False, True])
def test_grants_and_deletions_of_two_sidecars_at_once_leave_none_behind(
    one: Sidecar, other: Sidecar, store: DatabaseStore, force: bool
) -> None:
    rounds, granted, gone = 8, list[str](), list[str]()
    for at in range(rounds):
        one.desk.create(asked(), Role(f"r{at}", ("models.read",)))
    for at in range(rounds):
        together = Barrier(2)

        def grant(at: int = at, together: Barrier = together) -> None:
            together.wait(30)
            try:
                granted.append(one.desk.create(asked(), Grant(f"g{at}", (ADA,), f"r{at}", ("**",))).item.role)  # type: ignore[union-attr]
            except Exception as error:
                assert "there is no role" in str(error)  # noqa: PT017 - or it was made

        def delete(at: int = at, together: Barrier = together) -> None:
            together.wait(30)
            try:
                other.desk.remove(asked(), "role", f"r{at}", force=force)
                gone.append(f"r{at}")
            except InUseError:
                pass

        threads = [Thread(target=grant), Thread(target=delete)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
    assert len(set(granted) | set(gone)) == rounds  # one of the two was done, whichever came first
    assert force or not set(granted) & set(gone)
    assert orphans(one) == orphans(other) == []
    stored = store.read(lambda reading: [rows.decode(key.kind, body) for key, body in PolicyReading(reading).bodies()])
    assert {item.role for item in stored if isinstance(item, Grant)} == set(granted) - set(gone)
    with pytest.raises(NotFoundError):
        one.desk.get(asked(), "role", gone[0] if gone else "none")
