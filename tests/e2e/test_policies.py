"""Roles, grants and policies from their making to their end, as an administrator and the workers' feed see them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from langtrain.v1 import policies_pb2 as pb
from langtrain.v1.policies_pb2_grpc import PolicyServiceStub
from tests import sidecars
from tests.certificates import CLIENT, Certificates
from tests.e2e.test_limits import channel
from tests.e2e.upstream import echo
from tests.sidecars import Sidecar, guarded
from tests.waiting import eventually

CODE = grpc.StatusCode
MANAGE = "/langtrain.v1.PolicyService/*"
PERMISSIONS = ["roles.*", "groups.*", "grants.*", "policies.*", "access.*",
               "roles.write", "groups.write", "grants.write", "policies.write"]  # fmt: skip


class Scene:
    """A running sidecar, and a client whose certificate may manage policies."""

    def __init__(self, running: Sidecar, opened: grpc.Channel) -> None:
        self.running = running
        self.policies = PolicyServiceStub(opened)

    def create_role(self, name: str, *permissions: str, key: str = "") -> pb.Role:
        request = pb.CreateRoleRequest(role=pb.Role(name=name, permissions=permissions), idempotency_key=key)
        return self.policies.CreateRole(request, timeout=30, wait_for_ready=True).role

    def grant(self, member: str, role: str, *resources: str) -> pb.Grant:
        request = pb.CreateGrantRequest(grant=pb.Grant(members=[member], role=role, resources=resources))
        return self.policies.CreateGrant(request, timeout=30, wait_for_ready=True).grant


def config_of(certificates: Certificates, upstream: str, **more: Any) -> dict[str, Any]:
    config = guarded(certificates, upstream)
    config["authorization"] = {
        "rules": [{"identities": [CLIENT], "methods": [MANAGE], "permissions": PERMISSIONS}],
        "policies": True,
        "bootstrap_admins": [CLIENT],
    }
    return {**config, **more}


@contextmanager
def scene(
    tmp_path: Path, certificates: Certificates, faults: frozenset[str] = frozenset(), **more: Any
) -> Iterator[Scene]:
    with (
        echo() as (_, upstream),
        sidecars.serve(config_of(certificates, upstream, **more), tmp_path, faults=faults) as running,
        channel(running.address, certificates) as opened,
    ):
        yield Scene(running, opened)


def test_a_role_is_made_granted_and_taken_back(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates, workers=2) as at:
        role = at.create_role("fraud", "models.read", "models.inference")
        assert (role.version, role.source) == (1, pb.SOURCE_SERVICE)
        grant = at.grant("user:login/alice", "fraud", "models/fraud-*")
        listed = at.policies.ListGrants(pb.ListGrantsRequest(), timeout=30).grants
        assert [(each.grant_id, each.source) for each in listed] == [
            ("config.bootstrap_admins", pb.SOURCE_CONFIG), (grant.grant_id, pb.SOURCE_SERVICE),
        ]  # fmt: skip
        at.policies.RevokeGrant(pb.RevokeGrantRequest(grant_id=grant.grant_id, reason="left"), timeout=30)
        with pytest.raises(grpc.RpcError) as raised:
            at.policies.GetGrant(pb.GetGrantRequest(grant_id=grant.grant_id), timeout=30)
        assert raised.value.code() is CODE.NOT_FOUND
        kinds = [(event["kind"], event["principal"]) for event in at.running.events()]
        for kind in ("role.created", "grant.created", "grant.revoked"):
            assert (kind, CLIENT) in kinds


def test_policies_are_off_unless_the_config_says_so(tmp_path: Path, certificates: Certificates) -> None:
    with (
        echo() as (_, upstream),
        sidecars.serve(guarded(certificates, upstream, MANAGE), tmp_path) as running,
        channel(running.address, certificates) as opened,
    ):
        with pytest.raises(grpc.RpcError) as raised:
            PolicyServiceStub(opened).ListRoles(pb.ListRolesRequest(), timeout=30, wait_for_ready=True)
        assert (raised.value.code(), raised.value.details()) == (
            CODE.FAILED_PRECONDITION, "roles and policies are off: authorization.policies is not set",
        )  # fmt: skip


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates, frozenset(("child_died",))) as at:
        acknowledged = []
        for run in range(3):
            for number in range(3):
                name = f"role-{run}-{number}"
                at.create_role(name, "models.read", key=name)
                acknowledged.append(name)
            (services,) = at.running.children("services").values()
            os.kill(services, signal.SIGKILL)
            eventually(partial(another, at, services), "there is another services process")
        listed = at.policies.ListRoles(pb.ListRolesRequest(page_size=1000), timeout=30, wait_for_ready=True).roles
        assert [role.name for role in listed if role.source == pb.SOURCE_SERVICE] == acknowledged
        again = at.create_role("role-2-2", "models.read", key="role-2-2")
        assert again.version == 1


def test_a_change_that_was_committed_is_recorded_after_a_kill(tmp_path: Path, certificates: Certificates) -> None:
    """Both processes are killed after the change and before its event is on disk."""
    with scene(tmp_path, certificates, frozenset(("child_killed",))) as at:
        at.create_role("kept", "models.read")
        (recorder,), (services,) = (at.running.children(role).values() for role in ("recorder", "services"))
        os.kill(recorder, signal.SIGSTOP)
        asking = at.policies.DeleteRole.future(pb.DeleteRoleRequest(name="kept"), timeout=60)
        eventually(lambda: at.running.unrecorded() == 1, "the role is gone, and its event waits")
        os.kill(services, signal.SIGKILL)
        os.kill(recorder, signal.SIGKILL)
        with pytest.raises(grpc.RpcError):
            asking.result()

        def deleted() -> list[tuple[str, str]]:
            events = [each for each in at.running.events() if each["kind"] == "role.deleted"]
            return [(each["principal"], json.loads(each["reason"])["name"]) for each in events]

        eventually(lambda: deleted() == [(CLIENT, "kept")], "recorded", 60)
        eventually(lambda: at.running.unrecorded() == 0, "and taken out")
        listed = at.policies.ListRoles(pb.ListRolesRequest(page_size=1000), timeout=30, wait_for_ready=True).roles
        assert [role.name for role in listed if role.source == pb.SOURCE_SERVICE] == []


def test_the_first_administrators_are_the_configs(tmp_path: Path, certificates: Certificates) -> None:
    with echo() as (_, upstream):
        config = config_of(certificates, upstream)
        with sidecars.serve(config, tmp_path) as running, channel(running.address, certificates) as opened:
            at = Scene(running, opened)
            at.create_role("mine", "models.read")
            config["authorization"]["bootstrap_admins"] = ["spiffe://example.org/somebody/else"]
            sidecars.write(running.file, {**config, "state": {"directory": str(running.state)}})

            def members() -> list[str]:
                found = at.policies.GetGrant(pb.GetGrantRequest(grant_id="config.bootstrap_admins"), timeout=30)
                return list(found.grant.members)

            eventually(lambda: members() == ["spiffe://example.org/somebody/else"], "the config has changed")
            with pytest.raises(grpc.RpcError) as raised:
                at.create_role("more", "models.read")
            assert (raised.value.code(), raised.value.details()) == (
                CODE.PERMISSION_DENIED, "nobody gives what he does not have",
            )  # fmt: skip


def test_a_change_is_tried_against_what_was_called(tmp_path: Path, certificates: Certificates) -> None:
    with scene(tmp_path, certificates) as at:
        at.create_role("mine", "models.read")
        change = pb.SimulateRequest(
            put_policies=[pb.Policy(name="no", effect=pb.EFFECT_DENY, permissions=["roles.write"])]
        )

        def changed() -> list[tuple[str, str, str]]:
            found = at.policies.Simulate(change, timeout=30).changed
            return [(each.question.subject.principal, each.question.permission, each.after.reason) for each in found]

        # The end of a call is recorded after its answer.
        eventually(lambda: changed() == [(CLIENT, "roles.write", "policy.deny")], "the call is recorded")
        assert list(at.policies.ListPolicies(pb.ListPoliciesRequest(), timeout=30).policies) == []


def another(at: Scene, pid: int) -> bool:
    """Whether a services process is in the place of the one with this id."""
    return set(at.running.children("services").values()) not in (set(), {pid})
