"""Decides: roles grant, every policy that allows must hold as well, and none that denies may hold or err.

What is asked for often is remembered, and forgotten whole with every change of what it was decided from. Not
thread-safe.

Reasons of decisions
policy.allowed      a role grants, and no policy objects
policy.no_grant     no role that the caller has on the resource has the permission
policy.deny         a policy that denies holds
policy.unmet        the condition of a policy that allows is false
policy.missing      a condition asks for an attribute that is not there
policy.error        a condition cannot be evaluated
policy.tenant       the resource is another tenant's
policy.resource     what was asked about is no resource
policy.permission   what was asked for is no permission
policy.internal     the engine itself failed
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from types import MappingProxyType
from typing import Final, TypeAlias

from interceptors.bounded import Bounded
from interceptors.facts import Principal
from sidecar.policy import builtin, names
from sidecar.policy.conditions import HOLDS, Condition, Outcome, Roots, Scope, condition
from sidecar.policy.index import ByPattern
from sidecar.policy.model import (
    EMPTY,
    NO_ATTRIBUTES,
    NO_OBLIGATIONS,
    Attributes,
    Binding,
    Decision,
    Group,
    Item,
    Policy,
    Role,
    Snapshot,
    Value,
)
from sidecar.policy.validate import check

MOST_CALLERS: Final = 4096
MOST_DECISIONS: Final = 16384
MOST_TARGETS: Final = 4096  # pairs of permission and resource
MOST_SCOPES: Final = 4096
NO_ROOTS: Final[Roots] = MappingProxyType({})

Key: TypeAlias = tuple[type[Item], str, str]  # of what kind, tenant, name

INTERNAL: Final = Decision(False, "policy.internal", until=-math.inf)


class Caller:
    """A principal, and what is known of it by itself. keys: the members of bindings that it is."""

    __slots__ = ("keys", "principal", "user")

    def __init__(self, principal: Principal, keys: tuple[str, ...]) -> None:
        self.principal = principal
        self.keys = keys
        # What a token says of its own name, tenant or roles is not what we know of them.
        self.user: Mapping[str, Value] = {
            **dict(principal.attributes),
            "name": principal.name,
            "kind": principal.kind,
            "tenant": principal.tenant,
            "roles": tuple(sorted(principal.roles)),
        }


class Rule:
    """A policy, its condition compiled. moving: whether its outcome depends on more than caller and resource."""

    __slots__ = ("condition", "moving", "policy", "timed")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.condition: Condition | None = condition(policy.condition) if policy.condition else None
        self.moving = self.condition is not None and self.condition.moving
        self.timed = self.condition is not None and self.condition.timed

    def outcome(self, scope: Scope | None, moving: Roots = NO_ROOTS) -> Outcome:
        """scope: None where no policy that applies has a condition."""
        if self.condition is None:
            return HOLDS
        assert scope is not None
        return scope.outcome(self.condition, moving)

    def targets(self) -> Iterator[tuple[str, str]]:
        """Patterns of a permission and of a resource; what both cover it applies to."""
        policy = self.policy
        resources = policy.resources or (names.EVERYTHING,)
        if not policy.permissions and not policy.resources and self.condition is not None:
            for kind, root in names.ROOTS_OF_KINDS.items():
                if root in self.condition.roots:
                    resources = (f"{kind}/*",)
        for permission in policy.permissions or ("*",):
            for resource in resources:
                yield permission, names.scope(resource, policy.tenant)

    @property
    def order(self) -> tuple[bool, bool, str]:
        """Those that stand are asked first, so that a denial of theirs stands too."""
        return self.moving, self.policy.effect != "deny", self.policy.name


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """What was decided without the request and its environment. since, until: Unix seconds between which it stands.

    resource: the attributes that it was decided with.  moving: what has yet to be asked before it is a decision.
    """

    decision: Decision
    resource: Mapping[str, Value]
    since: float
    until: float
    moving: tuple[Rule, ...] = ()
    scope: Scope | None = None


class Engine:
    """Everything that decisions are made from, indexed by who, permission and resource."""

    def __init__(self, snapshot: Snapshot = EMPTY) -> None:
        """Raises PolicyError for the first thing in it that is not valid."""
        self.sequence = snapshot.sequence
        self._items: dict[Key, Item] = {}
        self._roles: dict[tuple[str, str], set[str]] = {}  # tenant and pattern of permissions → names
        self._groups: dict[str, ByPattern[str]] = {}  # by tenant: names, by member
        self._members: dict[str, ByPattern[str]] = {}  # by tenant: members that bindings name, groups aside
        self._bindings: dict[tuple[str, str], dict[str, ByPattern[Binding]]] = {}  # tenant and member → by role
        self._rules: dict[tuple[str, str], ByPattern[Rule]] = {}  # tenant and pattern of permissions
        self._rule: dict[tuple[str, str], Rule] = {}  # tenant and policy's name
        self._callers: Bounded[Principal, Caller] = Bounded(MOST_CALLERS)
        self._granting: Bounded[tuple[str, str], frozenset[str]] = Bounded(MOST_TARGETS)
        self._applying: Bounded[tuple[str, str], tuple[Rule, ...]] = Bounded(MOST_TARGETS)
        self._scopes: Bounded[tuple[Caller, str], tuple[Mapping[str, Value], Scope]] = Bounded(MOST_SCOPES)
        self._decisions: Bounded[tuple[Caller, str, str], _Kept] = Bounded(MOST_DECISIONS)
        for items in (snapshot.roles, snapshot.groups, snapshot.bindings, snapshot.policies):
            for item in items:
                self.put(item)

    # Changes.

    def put(self, item: Item) -> None:
        """Add `item`, in place of the one of its name. Raises PolicyError, and then nothing has changed."""
        check(item)
        self.drop(type(item), item.tenant, _name(item))
        self._items[_key(item)] = item
        match item:
            case Role():
                for pattern in item.permissions:
                    self._roles.setdefault((item.tenant, pattern), set()).add(item.name)
            case Group():
                self._groups.setdefault(item.tenant, ByPattern()).add(_identities(item.members), item.name)
            case Binding():
                self._bind(item)
            case Policy():
                rule = self._rule[item.tenant, item.name] = Rule(item)
                for permission, resource in rule.targets():
                    self._rules.setdefault((item.tenant, permission), ByPattern()).add((resource,), rule)

    def drop(self, kind: type[Item], tenant: str, name: str) -> None:
        """Forget one thing, if it is there. name: a binding's is its id."""
        self._forget()
        item = self._items.pop((kind, tenant, name), None)
        match item:
            case Role():
                for pattern in item.permissions:
                    self._roles[tenant, pattern].discard(name)
            case Group():
                self._groups[tenant].remove(_identities(item.members), name)
            case Binding():
                self._unbind(item)
            case Policy():
                rule = self._rule.pop((tenant, name))
                for permission, resource in rule.targets():
                    self._rules[tenant, permission].remove((resource,), rule)

    def snapshot(self) -> Snapshot:
        items = self._items.values()
        return Snapshot(
            self.sequence,
            tuple(item for item in items if isinstance(item, Role)),
            tuple(item for item in items if isinstance(item, Group)),
            tuple(item for item in items if isinstance(item, Binding)),
            tuple(item for item in items if isinstance(item, Policy)),
        )

    def _bind(self, item: Binding) -> None:
        for member in _identities(item.members):
            by_role = self._bindings.setdefault((item.tenant, member), {})
            if not by_role and not member.startswith(names.GROUP):
                self._members.setdefault(item.tenant, ByPattern()).add((member,), member)
            by_role.setdefault(item.role, ByPattern()).add(_scopes(item), item)

    def _unbind(self, item: Binding) -> None:
        for member in _identities(item.members):
            by_role = self._bindings[item.tenant, member]
            by_role[item.role].remove(_scopes(item), item)
            if not by_role[item.role]:
                del by_role[item.role]
            if not by_role:
                del self._bindings[item.tenant, member]
                if not member.startswith(names.GROUP):
                    self._members[item.tenant].remove((member,), member)

    def _forget(self) -> None:
        for kept in (self._callers, self._granting, self._applying, self._scopes, self._decisions):
            kept.clear()

    # Questions.

    def decide(
        self,
        principal: Principal,
        permission: str,
        resource: str,
        attributes: Attributes = NO_ATTRIBUTES,
        now: float = 0.0,
    ) -> Decision:
        """resource: a full name.  now: Unix seconds. Raises nothing: what goes wrong here denies."""
        try:
            caller = self.caller(principal)
            key = (caller, permission, resource)
            kept = self._decisions.get(key)
            if kept is None or kept.resource is not attributes.resource or not kept.since <= now < kept.until:
                kept = self._decisions.keep(key, self._stand(caller, permission, resource, attributes.resource, now))
            return _move(kept, attributes, now) if kept.moving else kept.decision
        except Exception:
            return INTERNAL

    def reads(self, permission: str, resource: str) -> frozenset[tuple[str, ...]]:
        """(root, attribute) of all that may be asked for, so that nothing else is looked up. Raises NameFault."""
        at = names.resource(resource)
        rules = self.rules(permission, at)
        return frozenset(path for rule in rules if rule.condition is not None for path in rule.condition.named)

    def _stand(self, caller: Caller, permission: str, resource: str, given: Mapping[str, Value], now: float) -> _Kept:
        def final(decision: Decision) -> _Kept:
            return _Kept(decision, given, now, decision.until)

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
        bindings = self.bindings(caller, granting, at)
        active = [binding for binding in bindings if binding.begins <= now < binding.expires]
        asserted = sorted(caller.principal.roles & granting)
        if not active and not asserted:
            begins = (binding.begins for binding in bindings if binding.begins > now)
            return final(Decision(False, "policy.no_grant", until=min(begins, default=math.inf)))
        grants = (*(binding.id for binding in active), *(f"role:{name}" for name in asserted))
        ends, obligations = _until(bindings, active, asserted, now)
        rules = self.rules(permission, at)
        scope = self.scope(caller, at, given) if any(rule.condition for rule in rules) else None
        for rule in rules:
            if not rule.moving:
                outcome = rule.outcome(scope)
                if reason := objection(rule.policy, outcome):
                    return final(Decision(False, reason, grants, (rule.policy.name,), outcome.missing))
            obligations |= rule.policy.obligations
        moving = tuple(rule for rule in rules if rule.moving)
        allowing = tuple(rule.policy.name for rule in rules if rule.policy.effect == "allow")
        until = -math.inf if any(rule.timed for rule in moving) else ends
        decision = Decision(True, "policy.allowed", grants, allowing, (), obligations, until, not moving)
        return _Kept(decision, given, now, ends, moving, scope)

    # Parts of an answer, of which explanations are made too.

    def caller(self, principal: Principal) -> Caller:
        known = self._callers.get(principal)
        if known is not None and _the_same(known.principal, principal):
            return known
        tenant, name = principal.tenant, (principal.name,)
        keys = list(self._members[tenant].find(name)) if tenant in self._members else []
        if tenant in self._groups:
            groups = (f"{names.GROUP}{group}" for group in self._groups[tenant].find(name))
            keys += (group for group in groups if (tenant, group) in self._bindings)
        return self._callers.keep(principal, Caller(principal, tuple(dict.fromkeys(keys))))

    def granting(self, tenant: str, permission: str) -> frozenset[str]:
        """Names of the tenant's roles that have a permission. Raises NameFault."""
        known = self._granting.get((tenant, permission))
        if known is None:
            names.permission(permission)
            found: set[str] = set()
            for pattern in names.granting(permission):
                found |= self._roles.get((tenant, pattern), set()) | _BUILTIN.get(pattern, set())
            known = self._granting.keep((tenant, permission), frozenset(found))
        return known

    def bindings(self, caller: Caller, granting: frozenset[str], at: names.Resource) -> tuple[Binding, ...]:
        """Those that give the caller one of the roles on a resource, whatever the time."""
        found: dict[str, Binding] = {}
        for member in caller.keys:
            by_role = self._bindings[at.tenant, member]
            for role in granting if len(granting) <= len(by_role) else by_role:
                if role in granting and role in by_role:
                    found.update((binding.id, binding) for binding in by_role[role].find(at.lineage))
        return tuple(found.values())

    def held(self, caller: Caller, granting: frozenset[str]) -> tuple[Binding, ...]:
        """Those that give the caller one of the roles, whatever the resource and the time."""
        by_roles = (self._bindings[caller.principal.tenant, member] for member in caller.keys)
        indexes = (index for by_role in by_roles for role, index in by_role.items() if role in granting)
        return tuple({binding.id: binding for index in indexes for binding in index.all()}.values())

    def rules(self, permission: str, at: names.Resource) -> tuple[Rule, ...]:
        """What applies to a permission on a resource, in the order in which it is asked."""
        known = self._applying.get((permission, at.name))
        if known is None:
            found: dict[str, Rule] = {}
            for pattern in names.granting(permission):
                index = self._rules.get((at.tenant, pattern))
                if index is not None:
                    found.update((rule.policy.name, rule) for rule in index.find(at.lineage))
            known = self._applying.keep((permission, at.name), tuple(sorted(found.values(), key=attrgetter("order"))))
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

    def everyone(self, tenant: str, role: str, at: names.Resource) -> Iterator[tuple[str, Binding]]:
        """Members whom bindings give a role on a resource, whatever the time."""
        for (of, member), by_role in self._bindings.items():
            if of == tenant and role in by_role:
                yield from ((member, binding) for binding in by_role[role].find(at.lineage))

    def item(self, kind: type[Item], tenant: str, name: str) -> Item | None:
        return self._items.get((kind, tenant, name))

    def items(self, kind: type[Item], tenant: str) -> Iterator[Item]:
        return (item for (of, owner, _), item in self._items.items() if of is kind and owner == tenant)


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
    roots = moving_roots(attributes, now)
    for rule in kept.moving:
        outcome = rule.outcome(kept.scope, roots)
        if reason := objection(rule.policy, outcome):
            allowed, policies = kept.decision, (rule.policy.name,)
            return Decision(
                False, reason, allowed.grants, policies, outcome.missing, NO_OBLIGATIONS, allowed.until, standing=False
            )
    return kept.decision


def _builtin() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for role in builtin.ROLES:
        for pattern in role.permissions:
            found.setdefault(pattern, set()).add(role.name)
    return found


_BUILTIN: Final = _builtin()  # pattern of permissions → names


def _name(item: Item) -> str:
    return item.id if isinstance(item, Binding) else item.name


def _key(item: Item) -> Key:
    return type(item), item.tenant, _name(item)


def _identities(members: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        member if member.startswith(names.GROUP) else names.identity(member) for member in dict.fromkeys(members)
    )


def _scopes(binding: Binding) -> tuple[str, ...]:
    return tuple(names.scope(resource, binding.tenant) for resource in dict.fromkeys(binding.resources))


def _the_same(known: Principal, principal: Principal) -> bool:
    """Equal principals may differ to a condition: True == 1 == 1.0 here, and not there."""
    if known is principal:
        return True
    pairs = zip(known.attributes, principal.attributes, strict=True)
    return all(type(was) is type(value) for (_, was), (_, value) in pairs)


def _until(
    bindings: Iterable[Binding], active: Iterable[Binding], asserted: list[str], now: float
) -> tuple[float, frozenset[str]]:
    """When what grants may change, and what it obliges to."""
    obligations = NO_OBLIGATIONS.union(*(binding.obligations for binding in active))
    if any(binding.obligations for binding in bindings):
        times = (time for binding in bindings for time in (binding.begins, binding.expires) if time > now)
        return min(times, default=math.inf), obligations
    return math.inf if asserted else max(binding.expires for binding in active), obligations
