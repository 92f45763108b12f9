"""Nobody gives what he does not have: what a role, a group or a grant comes to, and whether whoever writes it has that.

What counts is what roles give, as in Kubernetes: policies bind whoever is given something as well. A permission on a
resource counts as had where one grant gives it for as long, and with no obligation that would be lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from interceptors.access import SENSITIVE
from interceptors.facts import Principal
from interceptors.patterns import path_pattern
from sidecar.policy import names
from sidecar.policy.engine import Engine
from sidecar.policy.model import NO_OBLIGATIONS, Grant, Group, Role

ALL: Final = "*"


class Given(NamedTuple):
    """What is given or had. permissions: patterns.  scopes: patterns of resources in full.  expires: Unix seconds."""

    permissions: tuple[str, ...]
    scopes: tuple[str, ...]
    expires: float = math.inf
    obligations: frozenset[str] = NO_OBLIGATIONS


class Lack(NamedTuple):
    """permission: that was to be given.  scope: on which; "" for any."""

    permission: str
    scope: str


def of_role(role: Role, before: Role | None) -> list[Given]:
    """What a role gives beyond what it did. Whoever vouches for callers may assert it, so it gives it everywhere."""
    new = tuple(each for each in role.permissions if before is None or not _among(before.permissions, each))
    return [Given(new, (names.scope(names.EVERYTHING, role.tenant),))] if new else []


def of_group(engine: Engine, group: Group, before: Group | None, now: float) -> list[Given]:
    """What new members get by grants to the group."""
    if before is not None and set(group.members) <= set(before.members):
        return []
    grants = engine.tables.naming((f"{names.GROUP}{group.name}",), group.tenant)
    return [given for grant in grants if grant.expires > now for given in of_grant(engine, grant)]


def of_grant(engine: Engine, grant: Grant) -> list[Given]:
    role = engine.tables.role(grant.tenant, grant.role)
    if role is None:
        return []
    scopes = tuple(names.scope(resource, grant.tenant) for resource in grant.resources)
    return [Given(role.permissions, scopes, grant.expires, grant.obligations)]


def had(engine: Engine, principal: Principal, now: float) -> list[Given]:
    """By grants, and by roles that whoever vouches for the principal asserts."""
    tenant = principal.tenant
    members = engine.caller(principal).members
    grants = [grant for grant in engine.tables.naming(members, tenant) if grant.begins <= now < grant.expires]
    asserted = (engine.tables.role(tenant, name) for name in sorted(principal.roles))
    everywhere = (names.scope(names.EVERYTHING, tenant),)
    found = [given for grant in grants for given in of_grant(engine, grant)]
    return found + [Given(role.permissions, everywhere) for role in asserted if role is not None]


def lacking(given: Iterable[Given], had: Sequence[Given]) -> Iterator[Lack]:
    """What of `given` is not had, each permission once."""
    told: set[str] = set()
    for each in given:
        lasting = [one for one in had if one.expires >= each.expires and one.obligations <= each.obligations]
        known: dict[frozenset[int], str] = {}  # those of `lasting` that have a permission → a scope that is missing
        for permission in each.permissions:
            having = frozenset(at for at, one in enumerate(lasting) if _among(one.permissions, permission))
            if having not in known:
                scopes = [scope for at in sorted(having) for scope in lasting[at].scopes]
                known[having] = next((scope for scope in each.scopes if not _within(scope, scopes)), "")
            if (not having or known[having]) and permission not in told:
                told.add(permission)
                yield Lack(permission, known[having] if having else "")


def _among(patterns: Iterable[str], wanted: str) -> bool:
    """Whether one of `patterns` of permissions is about all that `wanted` is about."""
    return any(pattern == wanted or (wanted not in SENSITIVE and _above(pattern, wanted)) for pattern in patterns)


def _above(pattern: str, wanted: str) -> bool:
    return pattern == ALL or (pattern.endswith(".*") and wanted.startswith(pattern[:-1]))


def _within(scope: str, scopes: Sequence[str]) -> bool:
    """Whether one of `scopes` reaches all that `scope` does, or that of which it is a child."""
    lineage = set(_lineage(scope))
    return any(wide in lineage or _reaches(wide, lineage) for wide in scopes)


def _reaches(wide: str, lineage: Iterable[str]) -> bool:
    prefix = wide.partition("*")[0]
    return prefix != wide and any(each.startswith(prefix) and path_pattern(wide).includes(each) for each in lineage)


def _lineage(scope: str) -> Iterator[str]:
    """A pattern of resources, and those of which all that it reaches are children: "tenants/t", …"""
    yield scope
    parts = scope.split("/")
    for end in range(2, len(parts), 2):
        if names.EVERYTHING in parts[end - 1] or names.EVERYTHING in parts[end - 2]:
            return  # from there on nobody knows how deep it goes
        yield "/".join(parts[:end])
