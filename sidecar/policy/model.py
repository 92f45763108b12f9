"""What decisions are made from, and what they say. Everything here is of a tenant, and nothing of it ever changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from interceptors.facts import DEFAULT_TENANT, Principal

Effect: TypeAlias = Literal["allow", "deny"]
Value: TypeAlias = "str | int | float | datetime | tuple[Value, ...] | list[Value] | Mapping[str, Value]"
NOTHING: Final[Mapping[str, Value]] = MappingProxyType({})
NO_OBLIGATIONS: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Role:
    """permissions: dotted names; "models.*" is every one below, "*" alone is all, but for sensitive ones
    (`interceptors.access`), which have to be named."""

    name: str
    permissions: tuple[str, ...]
    tenant: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class Group:
    """members: path-like patterns of identities, "spiffe://…", "dns:…", "cn:…", "user:…" or "key:…"."""

    name: str
    members: tuple[str, ...]
    tenant: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class Grant:
    """Gives `members` a role on `resources` of its tenant, children included, from `begins` until `expires`.

    members: as a group's, or "group:NAME".  resources: path-like patterns such as "models/fraud-*"; "**" is everything.
    begins, expires: Unix seconds; one that expires ends by itself.  reason, approver: why, and by whom.
    obligations: what a call that rests on it must meet.
    """

    id: str
    members: tuple[str, ...]
    role: str
    resources: tuple[str, ...]
    tenant: str = DEFAULT_TENANT
    begins: float = 0.0
    expires: float = math.inf
    reason: str = ""
    approver: str = ""
    obligations: frozenset[str] = NO_OBLIGATIONS


@dataclass(frozen=True, slots=True)
class Policy:
    """Of effect "allow": what it applies to is allowed only where its condition holds. Of "deny": not where it does.

    condition: in CEL; "" always holds.  permissions, resources: what it applies to, () for any; without both, whatever
    has the attributes that its condition reads.  obligations: what a call that it allows must meet.
    version: from 1, one more with each change.
    """

    name: str
    effect: Effect
    condition: str = ""
    permissions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    tenant: str = DEFAULT_TENANT
    obligations: frozenset[str] = NO_OBLIGATIONS
    version: int = 1


Item: TypeAlias = Role | Group | Grant | Policy


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that decisions are made from. sequence: of the last change in it."""

    sequence: int = 0
    roles: tuple[Role, ...] = ()
    groups: tuple[Group, ...] = ()
    grants: tuple[Grant, ...] = ()
    policies: tuple[Policy, ...] = ()


EMPTY: Final = Snapshot()


@dataclass(slots=True, init=False, eq=False)
class Attributes:
    """What is known of a call beside its principal, by the name under which conditions ask.

    resource: of the resource, which is `model` or `dataset` as well where it is one; standing decisions are remembered
    for as long as the same object comes, so one that was given is never changed, and other attributes are another
    object.  request, environment: of this call alone.
    Never changed; not frozen, and made by a constructor that is compiled, for one is made with every message.
    """

    resource: Mapping[str, Value]
    request: Mapping[str, Value]
    environment: Mapping[str, Value]

    def __init__(
        self,
        resource: Mapping[str, Value] = NOTHING,
        request: Mapping[str, Value] = NOTHING,
        environment: Mapping[str, Value] = NOTHING,
    ) -> None:
        self.resource = resource
        self.request = request
        self.environment = environment


NO_ATTRIBUTES: Final = Attributes()


@dataclass(frozen=True, slots=True)
class Question:
    """May `principal` do what `permission` names with `resource`, a full name, at `now`, Unix seconds?

    let_in: whether it was a call, and allowed.
    """

    principal: Principal
    permission: str
    resource: str
    attributes: Attributes = NO_ATTRIBUTES
    now: float = 0.0
    let_in: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """reason: stable, for records: one of `engine`'s.

    grants: ids of the grants that it rests on, "role:NAME" for one that whoever vouches for the caller asserts.
    policies: what it was decided by, all allow-policies where it is allowed.  missing: attributes that a condition
    asked for in vain, "user.location".  obligations: to meet, or to deny.
    until: Unix seconds at which it may change by itself, -inf for any time.
    standing: whether nothing of the request or its environment was asked for, so that the next message fares the same.
    """

    allowed: bool
    reason: str
    grants: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    obligations: frozenset[str] = NO_OBLIGATIONS
    until: float = math.inf
    standing: bool = True
