"""Roles, groups and grants, as steps: who may do what."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from langtrain.calls import Steps, pages
from langtrain.errors import AlreadyExistsError
from langtrain.names import identity, member, timestamp
from langtrain.same import same_or_raise
from langtrain.v1 import administrators_pb2
from langtrain.v1 import policies_pb2 as pb


def create_role(name: str, permissions: Iterable[str], description: str = "") -> Steps[pb.Role]:
    """Make a role, or find it made with the same content.

    permissions: such as "models.inference"; "models.*" for every one below, "*" for all.
    Raises AlreadyExistsError where it has other content.
    """
    role = pb.Role(name=name, permissions=permissions, description=description)
    try:
        response: pb.CreateRoleResponse = yield pb.CreateRoleRequest(role=role)
    except AlreadyExistsError as error:
        found = yield from get_role(name)
        same_or_raise(error, "role", "update_role", found, role)
        return found
    return response.role


def update_role(
    name: str, permissions: Iterable[str], description: str = "", version: int = 0, allow_lockout: bool = False
) -> Steps[pb.Role]:
    """Put all of a role anew. version: the one that it replaces, 0 for any; ConflictError where it is another.

    allow_lockout: also where the caller loses by it what he needs to undo it; without it that is a PreconditionError.
    """
    role = pb.Role(name=name, permissions=permissions, description=description, version=version)
    response: pb.UpdateRoleResponse = yield pb.UpdateRoleRequest(role=role, allow_lockout=allow_lockout)
    return response.role


def delete_role(name: str, version: int = 0, force: bool = False, allow_lockout: bool = False) -> Steps[None]:
    """version, allow_lockout: as of `update_role`.

    force: revoke its grants as well; without it a role that is granted is a PreconditionError, which says how often.
    """
    yield pb.DeleteRoleRequest(name=name, version=version, force=force, allow_lockout=allow_lockout)


def get_role(name: str) -> Steps[pb.Role]:
    response: pb.GetRoleResponse = yield pb.GetRoleRequest(name=name)
    return response.role


def list_roles() -> Steps[list[pb.Role]]:
    """Those that every tenant has first."""
    return (yield from pages(pb.ListRolesRequest(), "roles"))


def create_group(name: str, members: Iterable[str], description: str = "") -> Steps[pb.Group]:
    """Make a group, or find it made with the same content.

    members: identities and patterns of them, such as "spiffe://example.org/team/*"; without a kind, users.
    Raises AlreadyExistsError where it has other content.
    """
    group = pb.Group(name=name, members=map(identity, members), description=description)
    try:
        response: pb.CreateGroupResponse = yield pb.CreateGroupRequest(group=group)
    except AlreadyExistsError as error:
        found = yield from get_group(name)
        same_or_raise(error, "group", "update_group", found, group)
        return found
    return response.group


def update_group(
    name: str, members: Iterable[str], description: str = "", version: int = 0, allow_lockout: bool = False
) -> Steps[pb.Group]:
    """Put all of a group anew. version, allow_lockout: as of `update_role`."""
    group = pb.Group(name=name, members=map(identity, members), description=description, version=version)
    response: pb.UpdateGroupResponse = yield pb.UpdateGroupRequest(group=group, allow_lockout=allow_lockout)
    return response.group


def delete_group(name: str, version: int = 0, force: bool = False, allow_lockout: bool = False) -> Steps[None]:
    """force: take it out of the grants that name it as well.  version, allow_lockout: as of `delete_role`."""
    yield pb.DeleteGroupRequest(name=name, version=version, force=force, allow_lockout=allow_lockout)


def get_group(name: str) -> Steps[pb.Group]:
    response: pb.GetGroupResponse = yield pb.GetGroupRequest(name=name)
    return response.group


def list_groups() -> Steps[list[pb.Group]]:
    return (yield from pages(pb.ListGroupsRequest(), "groups"))


def grant(
    role: str,
    members: Iterable[str],
    resources: Iterable[str],
    expires: datetime | timedelta | None = None,
    reason: str = "",
    approver: str = "",
    begins: datetime | timedelta | None = None,
    obligations: Iterable[str] = (),
    grant_id: str = "",
    allow_lockout: bool = False,
) -> Steps[pb.Grant]:
    """Give members a role on resources; the grant ends by itself when it expires.

    members: as of `create_group`, or "group:NAME".  resources: such as "models/fraud-*", children included; "**" for
    everything of the tenant.  expires, begins: aware times, or spans from now on.  obligations: what a call that rests
    on it must meet, such as "redact:pii".  grant_id: chosen by the sidecar where it is left out.
    allow_lockout: as of `update_role`, for obligations hold for all that a member has.
    """
    wanted = pb.Grant(
        grant_id=grant_id,
        members=map(member, members),
        role=role,
        resources=resources,
        begins=timestamp(begins),
        expires=timestamp(expires),
        reason=reason,
        approver=approver,
        obligations=obligations,
    )
    response: pb.CreateGrantResponse = yield pb.CreateGrantRequest(grant=wanted, allow_lockout=allow_lockout)
    return response.grant


def revoke(grant_id: str, reason: str = "", allow_lockout: bool = False) -> Steps[None]:
    """For good. Open calls that rest on the grant end. allow_lockout: as of `update_role`."""
    yield pb.RevokeGrantRequest(grant_id=grant_id, reason=reason, allow_lockout=allow_lockout)


def get_grant(grant_id: str) -> Steps[pb.Grant]:
    response: pb.GetGrantResponse = yield pb.GetGrantRequest(grant_id=grant_id)
    return response.grant


def list_grants(who: str = "", role: str = "") -> Steps[list[pb.Grant]]:
    """Those in the sidecar's config first. who: only those that name this member, "" for any."""
    return (yield from pages(pb.ListGrantsRequest(member=who and member(who), role=role), "grants"))


def claim_administrator(credential: str) -> Steps[administrators_pb2.ClaimAdministratorResponse]:
    """Become an administrator of your own tenant, by what `langtrain-sidecar init` has printed; the same again is
    answered again.

    Raises DeniedError for a credential that is not good, or not for you.
    """
    response: administrators_pb2.ClaimAdministratorResponse = yield administrators_pb2.ClaimAdministratorRequest(
        credential=credential
    )
    return response
