"""Roles, groups, grants and policies: protobuf to values and back."""

from __future__ import annotations

import math
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from langtrain.v1 import policies_pb2 as pb
from sidecar.errors import RequestError
from sidecar.policy import builtin
from sidecar.policy.bootstrap import CONFIG
from sidecar.policy.model import Grant, Group, Policy, Role
from sidecar.policy.store_sql import Stored

EFFECTS: Final = {"allow": pb.EFFECT_ALLOW, "deny": pb.EFFECT_DENY}
_EFFECTS: Final = {number: name for name, number in EFFECTS.items()}


def read_role(said: pb.Role, tenant: str) -> Role:
    return Role(said.name, tuple(said.permissions), tenant)


def read_group(said: pb.Group, tenant: str) -> Group:
    return Group(said.name, tuple(said.members), tenant)


def read_grant(said: pb.Grant, tenant: str, field: str = "grant") -> Grant:
    """field: where it stands in the request. Raises RequestError."""
    begins = read_time(said.begins, f"{field}.begins") if said.HasField("begins") else 0.0
    expires = read_time(said.expires, f"{field}.expires") if said.HasField("expires") else math.inf
    return Grant(
        said.grant_id, tuple(said.members), said.role, tuple(said.resources), tenant, begins, expires, said.reason,
        said.approver, frozenset(said.obligations),
    )  # fmt: skip


def read_policy(said: pb.Policy, tenant: str) -> Policy:
    """One of no known effect is not valid."""
    effect = _EFFECTS.get(said.effect, pb.Effect.Name(said.effect) if said.effect in pb.Effect.values() else "")
    return Policy(
        said.name, effect, said.condition, tuple(said.permissions), tuple(said.resources), tenant,  # type: ignore[arg-type]
        frozenset(said.obligations),
    )  # fmt: skip


def role(stored: Stored) -> pb.Role:
    item = stored.item
    assert isinstance(item, Role)
    return pb.Role(
        name=item.name,
        permissions=item.permissions,
        description=stored.description,
        version=stored.version,
        updated=timestamp(stored.updated),
        source=_source(item.name),
    )


def group(stored: Stored) -> pb.Group:
    item = stored.item
    assert isinstance(item, Group)
    return pb.Group(
        name=item.name,
        members=item.members,
        description=stored.description,
        version=stored.version,
        updated=timestamp(stored.updated),
        source=_source(item.name),
    )


def grant(stored: Stored) -> pb.Grant:
    item = stored.item
    assert isinstance(item, Grant)
    return pb.Grant(
        grant_id=item.id,
        members=item.members,
        role=item.role,
        resources=item.resources,
        begins=timestamp(item.begins),
        expires=timestamp(item.expires),
        reason=item.reason,
        approver=item.approver,
        obligations=sorted(item.obligations),
        created=timestamp(stored.created),
        creator=stored.creator,
        source=_source(item.id),
    )


def policy(stored: Stored) -> pb.Policy:
    item = stored.item
    assert isinstance(item, Policy)
    return pb.Policy(
        name=item.name,
        effect=EFFECTS[item.effect],
        condition=item.condition,
        permissions=item.permissions,
        resources=item.resources,
        obligations=sorted(item.obligations),
        description=stored.description,
        version=stored.version,
        updated=timestamp(stored.updated),
        updater=stored.updater,
        source=_source(item.name),
    )


def read_time(said: Timestamp, field: str) -> float:
    """Unix seconds. Raises RequestError for what RFC 3339 cannot spell."""
    try:
        said.ToDatetime()
    except ValueError:
        raise RequestError([(field, "expected a time from the year 1 to the year 9999")]) from None
    return said.seconds + said.nanos / 1e9


def timestamp(seconds: float) -> Timestamp | None:
    """None for a time that is none: never, or not."""
    if not 0 < seconds < math.inf:
        return None
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _source(name: str) -> pb.Source.ValueType:
    if name.startswith(builtin.RESERVED):
        return pb.SOURCE_BUILTIN
    return pb.SOURCE_CONFIG if name.startswith(CONFIG) else pb.SOURCE_SERVICE
