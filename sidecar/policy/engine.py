"""Decides: roles grant, every policy that allows must hold as well, and none that denies may hold or err.

What is asked for often is remembered, and forgotten whole with every change of what it was decided from. Not
thread-safe.

Reasons of decisions
policy.allowed      a role grants, or a rule of the config, and no policy objects
policy.no_grant     no role that the caller has on the resource has the permission
policy.deny         a policy that denies holds
policy.unmet        the condition of a policy that allows is false
policy.missing      a condition asks for an attribute that is not there
policy.error        a condition cannot be evaluated
policy.tenant       the resource is another tenant's
policy.resource     what was asked about is no resource
policy.permission   what was asked for is no permission
policy.costly       so many policies apply that asking them would hold up everybody
policy.internal     the engine itself failed
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from interceptors.bounded import Bounded
from interceptors.facts import Principal
from sidecar.policy import names
from sidecar.policy.conditions import Outcome, Roots, Scope
from sidecar.policy.model import (
    EMPTY,
    NO_ATTRIBUTES,
    NO_OBLIGATIONS,
    NOTHING,
    Attributes,
    Decision,
    Grant,
    Item,
    Policy,
    Snapshot,
    Value,
)
from sidecar.policy.tables import Rule, Tables
from sidecar.policy.validate import CostlyError

MOST_CALLERS: Final = 4096
MOST_DECISIONS: Final = 16384
MOST_TARGETS: Final = 4096  # pairs of permission and resource
MOST_SCOPES: Final = 4096

NO_ROOTS: Final[Roots] = MappingProxyType({})
COSTLY: Final = Decision(False, "policy.costly")
INTERNAL: Final = Decision(False, "policy.internal", until=-math.inf)


class Caller:
    """A principal, and what is known of it by itself. members: of grants, that it is one of."""

    __slots__ = ("members", "principal", "user")

    def __init__(self, principal: Principal, members: tuple[str, ...]) -> None:
        self.principal = principal
        self.members = members
        # What a token says of its own name, tenant or roles is not what we know of them.
        self.user: Mapping[str, Value] = {
            **dict(principal.attributes),
            "name": principal.name,
            "kind": principal.kind,
            "tenant": principal.tenant,
            "roles": tuple(sorted(principal.roles)),
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """What was decided without the request and its environment. since, until: Unix seconds between which it stands.

    resource: the attributes that it was decided with.  moving: what has yet to be asked before it is a decision;
    timed: some of these ask for the time.
    """

    decision: Decision
    resource: Mapping[str, Value]
    since: float
    until: float
    moving: tuple[Rule, ...] = ()
    scope: Scope | None = None
    timed: bool = False


class Engine:
    """tables: what decisions are made from, for whoever explains them; changed by `put` and `drop` alone."""

    def __init__(self, snapshot: Snapshot = EMPTY) -> None:
        """Raises PolicyError for the first thing in it that is not valid."""
        self.tables = Tables(snapshot)
        self._callers: Bounded[Principal, Caller] = Bounded(MOST_CALLERS)
        self._last: tuple[Principal | None, Caller | None] = None, None
        self._granting: Bounded[tuple[str, str], frozenset[str]] = Bounded(MOST_TARGETS)
        self._rules: Bounded[tuple[str, str], tuple[Rule, ...]] = Bounded(MOST_TARGETS)
        self._scopes: Bounded[tuple[Caller, str], tuple[Mapping[str, Value], Scope]] = Bounded(MOST_SCOPES)
        self._decisions: Bounded[tuple[Caller, str, str, bool], _Kept] = Bounded(MOST_DECISIONS)
        self._beginnings: Bounded[tuple[Caller, str, bool], _Kept] = Bounded(MOST_DECISIONS)

    def put(self, item: Item) -> None:
        """Add `item`, in place of the one of its name. Raises PolicyError, and then nothing has changed."""
        self.tables.put(item)
        self.forget()

    def take(self, item: Item) -> None:
        """As `put`, of what is known to be valid: `rows.decode` has looked."""
        self.tables.take(item)
        self.forget()

    def drop(self, kind: type[Item], tenant: str, name: str) -> None:
        """Forget one thing, if it is there. name: a grant's is its id."""
        self.tables.drop(kind, tenant, name)
        self.forget()

    def forget(self) -> None:
        """What was decided; it takes room, and is decided again."""
        for kept in (
            self._callers, self._granting, self._rules, self._scopes, self._decisions, self._beginnings,
        ):  # fmt: skip
            kept.clear()
        self._last = None, None

    def decide(
        self,
        principal: Principal,
        permission: str,
        resource: str,
        attributes: Attributes = NO_ATTRIBUTES,
        now: float = 0.0,
        granted: bool = False,
    ) -> Decision:
        """resource: a full name.  now: Unix seconds.  granted: by somebody else, so that only policies are asked.

        Raises nothing: what goes wrong here denies.
        """
        try:
            caller = self.caller(principal)
            key = (caller, permission, resource, granted)
            kept = self._decisions.get(key)
            if kept is None or kept.resource is not attributes.resource or not kept.since <= now < kept.until:
                stands = self._stand(caller, permission, resource, attributes.resource, now, granted)
                kept = self._decisions.keep(key, stands)
            return _move(kept, attributes, now) if kept.moving else kept.decision
        except CostlyError:
            return COSTLY
        except Exception:
            return INTERNAL

    def begin(
        self,
        principal: Principal,
        permission: str,
        attributes: Attributes = NO_ATTRIBUTES,
        now: float = 0.0,
        granted: bool = False,
    ) -> Decision:
        """Whether anything at all may be allowed, before it is known what of the tenant the call is about.

        Policies are asked that apply to everything there, and read nothing of a resource or request. obligations: all
        that decisions may come to.  until: Unix seconds at which this may change by itself. Raises nothing.
        """
        try:
            caller = self.caller(principal)
            key = (caller, permission, granted)
            kept = self._beginnings.get(key)
            if kept is None or not kept.since <= now < kept.until:
                kept = self._beginnings.keep(key, self._begin(caller, permission, now, granted))
            return _move(kept, attributes, now) if kept.moving else kept.decision
        except CostlyError:
            return COSTLY
        except Exception:
            return INTERNAL

    def reads(self, permission: str, resource: str) -> frozenset[tuple[str, ...]]:
        """(root, attribute) of all that may be asked for, so that nothing else is looked up.

        Raises NameFault and CostlyError.
        """
        rules = self.rules(permission, names.resource(resource))
        return frozenset(path for rule in rules if rule.condition is not None for path in rule.condition.named)

    def _begin(self, caller: Caller, permission: str, now: float, granted: bool) -> _Kept:
        until = math.inf

        def final(decision: Decision) -> _Kept:
            return _Kept(decision, NOTHING, now, until)

        tenant = caller.principal.tenant
        try:
            at = names.resource(f"tenants/{tenant}")
            granting = self.granting(tenant, permission)
        except names.NameFault:
            return final(Decision(False, "policy.permission"))
        owed = self.tables.owed_by_policies(tenant, permission)
        if not granted and caller.principal.roles.isdisjoint(granting):
            begins = math.inf
            for grant in self.tables.held(caller.members, granting, tenant):
                if grant.begins <= now < grant.expires:
                    until = grant.expires
                    break
                if now < grant.begins:
                    begins = min(begins, grant.begins)
            else:
                until = begins
                return final(Decision(False, "policy.no_grant", until=until))
        if not granted:
            owed |= self.tables.owed_by_grants(caller.members, granting, tenant)
        rules = [rule for rule in self.rules(permission, at) if rule.early]
        scope = self.scope(caller, at, NOTHING) if any(rule.condition for rule in rules) else None
        for rule in rules:
            if not rule.moving:
                outcome = rule.outcome(scope, NO_ROOTS)
                if reason := objection(rule.policy, outcome):
                    return final(Decision(False, reason, (), (rule.policy.name,), outcome.missing))
        moving = tuple(rule for rule in rules if rule.moving)
        timed = any(rule.timed for rule in moving)
        ends = -math.inf if timed else until
        decision = Decision(True, "policy.allowed", obligations=owed, until=ends, standing=not moving)
        return _Kept(decision, NOTHING, now, until, moving, scope, timed)

    def _stand(
        self,
        caller: Caller,
        permission: str,
        resource: str,
        given: Mapping[str, Value],
        now: float,
        granted: bool,
    ) -> _Kept:
        until = math.inf

        def final(decision: Decision) -> _Kept:
            return _Kept(decision, given, now, until)

        try:
            at = names.resource(resource)
        except names.NameFault:
            return final(Decision(False, "policy.resource"))
        try:
            granting = self.granting(at.tenant, permission)
        except names.NameFault:
            return final(Decision(False, "policy.permission"))
        if caller.principal.tenant != at.tenant:
            return final(Decision(False, "policy.tenant"))
        # Who needs no grant owes nothing by one.
        grants = () if granted else self.tables.grants(caller.members, granting, at)
        until = _next(grants, now)
        active = [grant for grant in grants if grant.begins <= now < grant.expires]
        asserted = [] if granted else sorted(caller.principal.roles & granting)
        if not granted and not active and not asserted:
            return final(Decision(False, "policy.no_grant", until=until))
        rests_on = (*(grant.id for grant in active), *(f"role:{name}" for name in asserted))
        obligations = NO_OBLIGATIONS.union(*(grant.obligations for grant in active))
        rules = self.rules(permission, at)
        scope = self.scope(caller, at, given) if any(rule.condition for rule in rules) else None
        for rule in rules:
            if not rule.moving:
                outcome = rule.outcome(scope, NO_ROOTS)
                if reason := objection(rule.policy, outcome):
                    return final(Decision(False, reason, rests_on, (rule.policy.name,), outcome.missing))
            obligations |= rule.policy.obligations
        moving = tuple(rule for rule in rules if rule.moving)
        allowing = tuple(rule.policy.name for rule in rules if rule.policy.effect == "allow")
        timed = any(rule.timed for rule in moving)
        if timed:
            ends = -math.inf
        elif any(grant.obligations for grant in grants):
            ends = until
        else:
            ends = math.inf if granted or asserted else max(grant.expires for grant in active)
        decision = Decision(True, "policy.allowed", rests_on, allowing, (), obligations, ends, not moving)
        return _Kept(decision, given, now, until, moving, scope, timed)

    # Parts of an answer, of which explanations are made too.

    def caller(self, principal: Principal) -> Caller:
        asked, last = self._last
        if asked is principal and last is not None:  # of one call there are several decisions
            return last
        known = self._callers.get(principal)
        if known is None or not _the_same(known.principal, principal):
            known = self._callers.keep(principal, Caller(principal, self.tables.members(principal)))
        self._last = principal, known
        return known

    def granting(self, tenant: str, permission: str) -> frozenset[str]:
        """Names of the tenant's roles that have a permission. Raises NameFault."""
        known = self._granting.get((tenant, permission))
        if known is None:
            known = self._granting.keep((tenant, permission), self.tables.granting(tenant, permission))
        return known

    def rules(self, permission: str, at: names.Resource) -> tuple[Rule, ...]:
        """What applies to a permission on a resource, in the order in which it is asked. Raises CostlyError."""
        known = self._rules.get((permission, at.name))
        if known is None:
            known = self._rules.keep((permission, at.name), self.tables.rules(permission, at))
        return known

    def scope(self, caller: Caller, at: names.Resource, given: Mapping[str, Value]) -> Scope:
        """given: attributes of the resource."""
        known = self._scopes.get((caller, at.name))
        if known is not None and known[0] is given:
            return known[1]
        resource = {**given, "name": at.name, "kind": at.kind, "id": at.id, "tenant": at.tenant}
        roots: dict[str, Mapping[str, Value]] = {"user": caller.user, "resource": resource}
        if at.kind in names.ROOTS_OF_KINDS:
            roots[names.ROOTS_OF_KINDS[at.kind]] = resource
        return self._scopes.keep((caller, at.name), (given, Scope(roots)))[1]


def moving_roots(attributes: Attributes, now: float) -> Roots:
    """What conditions see of a call. now: Unix seconds, which is its `environment.time`."""
    time = datetime.fromtimestamp(now, UTC)
    return {"request": attributes.request, "environment": {**attributes.environment, "time": time}}


def objection(policy: Policy, outcome: Outcome) -> str:
    """The reason for which it denies, "" where it does not."""
    if outcome.missing:
        return "policy.missing"
    if outcome.error:
        return "policy.error"
    if policy.effect == "deny":
        return "policy.deny" if outcome.holds else ""
    return "" if outcome.holds else "policy.unmet"


def _move(kept: _Kept, attributes: Attributes, now: float) -> Decision:
    """A decision that what stands allows, after what moves was asked too."""
    if kept.timed:
        roots = moving_roots(attributes, now)
    else:
        roots = {"request": attributes.request, "environment": attributes.environment}
    for rule in kept.moving:
        outcome = rule.outcome(kept.scope, roots)
        if reason := objection(rule.policy, outcome):
            allowed, policies = kept.decision, (rule.policy.name,)
            return Decision(
                False, reason, allowed.grants, policies, outcome.missing, NO_OBLIGATIONS, allowed.until, standing=False
            )
    return kept.decision


def _next(grants: Iterable[Grant], now: float) -> float:
    """When one of them begins or ends next."""
    times = (time for grant in grants for time in (grant.begins, grant.expires) if time > now)
    return min(times, default=math.inf)


def _the_same(known: Principal, principal: Principal) -> bool:
    """Equal principals may differ to a condition: True == 1 == 1.0 here, and not there."""
    if known is principal:
        return True
    pairs = zip(known.attributes, principal.attributes, strict=True)
    return all(type(was) is type(value) for (_, was), (_, value) in pairs)
