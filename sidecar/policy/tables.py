"""Roles, groups, grants and policies, indexed by who, permission and resource; each change costs what it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final, TypeAlias, TypeVar

from interceptors.access import SENSITIVE
from interceptors.authorize import KINDS
from interceptors.facts import Principal
from sidecar.policy import builtin, names
from sidecar.policy.conditions import HOLDS, Condition, Outcome, Roots, Scope, condition
from sidecar.policy.index import ByPattern
from sidecar.policy.model import NO_OBLIGATIONS, Grant, Group, Item, Policy, Role, Snapshot
from sidecar.policy.validate import CostlyError, breadth, check

AnItem = TypeVar("AnItem", bound=Item)
Key: TypeAlias = tuple[type[Item], str, str]  # of what kind, tenant, name
RULE_COST: Final = 1_000  # about nanoseconds to find one that applies, without its condition
MOST_TOGETHER: Final = 10_000_000  # the same of all that apply to one thing: nobody is served meanwhile
EARLY: Final = frozenset(("user", "environment"))  # roots of what is known before a call's first message


class Rule:
    """A policy, its condition compiled. moving: whether its outcome depends on more than caller and resource.

    early: whether it depends on neither resource nor request.
    """

    __slots__ = ("condition", "early", "moving", "policy", "timed")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.condition: Condition | None = condition(policy.condition) if policy.condition else None
        self.moving = self.condition is not None and bool(self.condition.moving)
        self.timed = self.condition is not None and self.condition.timed
        self.early = self.condition is None or self.condition.roots <= EARLY

    def outcome(self, scope: Scope | None, moving: Roots) -> Outcome:
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


class Tables:
    """Everything that decisions are made from. sequence: of the last change in it."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Raises PolicyError for the first thing in it that is not valid."""
        self.sequence = snapshot.sequence
        self.places = 0  # in indexes, that all items take
        self._items: dict[Key, Item] = {}
        self._roles: dict[tuple[str, str], set[str]] = {}  # tenant and pattern of permissions → names
        self._groups: dict[str, ByPattern[str]] = {}  # by tenant: names, by member
        self._members: dict[str, ByPattern[str]] = {}  # by tenant: members that grants name, groups aside
        self._grants: dict[tuple[str, str], dict[str, ByPattern[Grant]]] = {}  # tenant and member → by role
        self._rules: dict[tuple[str, str], ByPattern[Rule]] = {}  # tenant and pattern of permissions
        self._rule: dict[tuple[str, str], Rule] = {}  # tenant and policy's name
        # Obligations and how often: by tenant and pattern of permissions; by tenant, member and role.
        self._owed_by_policies: dict[tuple[str, str], Counter[str]] = {}
        self._owed_by_grants: dict[tuple[str, str, str], Counter[str]] = {}
        for items in (snapshot.roles, snapshot.groups, snapshot.grants, snapshot.policies):
            for item in items:
                self.put(item)

    def put(self, item: Item) -> None:
        """Add `item`, in place of the one of its name. Raises PolicyError, and then nothing has changed."""
        check(item)
        self.take(item)

    def take(self, item: Item) -> None:
        """As `put`, of what is known to be valid."""
        self.drop(type(item), item.tenant, _name(item))
        self._items[type(item), item.tenant, _name(item)] = item
        self.places += breadth(item)
        match item:
            case Role():
                for pattern in item.permissions:
                    self._roles.setdefault((item.tenant, pattern), set()).add(item.name)
            case Group():
                self._groups.setdefault(item.tenant, ByPattern()).add(_identities(item.members), item.name)
            case Grant():
                self._bind(item)
            case Policy():
                rule = self._rule[item.tenant, item.name] = Rule(item)
                for permission, resource in rule.targets():
                    self._rules.setdefault((item.tenant, permission), ByPattern()).add((resource,), rule)
                    _owe(self._owed_by_policies, (item.tenant, permission), item.obligations)

    def drop(self, kind: type[Item], tenant: str, name: str) -> None:
        """Forget one thing, if it is there. name: a grant's is its id."""
        item = self._items.pop((kind, tenant, name), None)
        self.places -= 0 if item is None else breadth(item)
        match item:
            case Role():
                for pattern in item.permissions:
                    self._roles[tenant, pattern].discard(name)
            case Group():
                self._groups[tenant].remove(_identities(item.members), name)
            case Grant():
                self._unbind(item)
            case Policy():
                rule = self._rule.pop((tenant, name))
                for permission, resource in rule.targets():
                    self._rules[tenant, permission].remove((resource,), rule)
                    _owe_no_more(self._owed_by_policies, (tenant, permission), item.obligations)

    def _bind(self, item: Grant) -> None:
        for member in _identities(item.members):
            by_role = self._grants.setdefault((item.tenant, member), {})
            if not by_role and not member.startswith(names.GROUP):
                self._members.setdefault(item.tenant, ByPattern()).add((member,), member)
            by_role.setdefault(item.role, ByPattern()).add(_scopes(item), item)
            _owe(self._owed_by_grants, (item.tenant, member, item.role), item.obligations)

    def _unbind(self, item: Grant) -> None:
        for member in _identities(item.members):
            by_role = self._grants[item.tenant, member]
            by_role[item.role].remove(_scopes(item), item)
            _owe_no_more(self._owed_by_grants, (item.tenant, member, item.role), item.obligations)
            if not by_role[item.role]:
                del by_role[item.role]
            if not by_role:
                del self._grants[item.tenant, member]
                if not member.startswith(names.GROUP):
                    self._members[item.tenant].remove((member,), member)

    def snapshot(self) -> Snapshot:
        items = self._items.values()
        return Snapshot(
            self.sequence,
            tuple(item for item in items if isinstance(item, Role)),
            tuple(item for item in items if isinstance(item, Group)),
            tuple(item for item in items if isinstance(item, Grant)),
            tuple(item for item in items if isinstance(item, Policy)),
        )

    def get(self, kind: type[AnItem], tenant: str, name: str) -> AnItem | None:
        """name: a grant's is its id."""
        found = self._items.get((kind, tenant, name))  # type: ignore[arg-type]
        return found if isinstance(found, kind) else None

    def role(self, tenant: str, name: str) -> Role | None:
        """One of the tenant's own or of those that every tenant has."""
        return builtin.BY_NAME.get(name) or self.get(Role, tenant, name)

    def roles(self, tenant: str) -> tuple[Role, ...]:
        """The tenant's own and those that every tenant has."""
        items = self._items.values()
        return (*builtin.ROLES, *(item for item in items if isinstance(item, Role) and item.tenant == tenant))

    def members(self, principal: Principal) -> tuple[str, ...]:
        """Those that grants name and the principal is one of: patterns of identities, and groups."""
        tenant, name = principal.tenant, (principal.name,)
        found = list(self._members[tenant].find(name)) if tenant in self._members else []
        if tenant in self._groups:
            groups = (f"{names.GROUP}{group}" for group in self._groups[tenant].find(name))
            found += (group for group in groups if (tenant, group) in self._grants)
        return tuple(dict.fromkeys(found))

    def granting(self, tenant: str, permission: str) -> frozenset[str]:
        """Names of the tenant's roles that have a permission; a sensitive one only by its name. Raises NameFault."""
        names.permission(permission)
        found: set[str] = set()
        for pattern in (permission,) if permission in SENSITIVE else names.reaching(permission):
            found |= self._roles.get((tenant, pattern), set()) | _BUILTIN.get(pattern, set())
        return frozenset(found)

    def grants(self, members: Iterable[str], granting: frozenset[str], at: names.Resource) -> tuple[Grant, ...]:
        """Those that give one of `members` one of the roles on a resource, whatever the time."""
        found: dict[str, Grant] = {}
        for member in members:
            by_role = self._grants[at.tenant, member]
            for role in granting if len(granting) <= len(by_role) else by_role:
                if role in granting and role in by_role:
                    found.update((grant.id, grant) for grant in by_role[role].find(at.lineage))
        return tuple(found.values())

    def held(self, members: Iterable[str], granting: frozenset[str], tenant: str) -> Iterator[Grant]:
        """Those that give one of `members` one of the roles, whatever the resource and the time; some several times."""
        for member in members:
            for role, index in self._grants[tenant, member].items():
                if role in granting:
                    yield from index.all()

    def owed_by_grants(self, members: Iterable[str], granting: frozenset[str], tenant: str) -> frozenset[str]:
        """The obligations of all of those."""
        owed = ((tenant, member, role) for member in members for role in granting)
        return NO_OBLIGATIONS.union(*(self._owed_by_grants[key] for key in owed if key in self._owed_by_grants))

    def owed_by_policies(self, tenant: str, permission: str) -> frozenset[str]:
        """The obligations of all policies about a permission, whatever the resource."""
        owed = ((tenant, pattern) for pattern in names.reaching(permission))
        return NO_OBLIGATIONS.union(*(self._owed_by_policies[key] for key in owed if key in self._owed_by_policies))

    def naming(self, members: Iterable[str], tenant: str) -> tuple[Grant, ...]:
        """Those that name one of `members`, whatever the role, the resource and the time."""
        by_roles = (self._grants.get((tenant, member), {}) for member in members)
        indexes = (index for by_role in by_roles for index in by_role.values())
        return tuple({grant.id: grant for index in indexes for grant in index.all()}.values())

    def everyone(self, role: str, at: names.Resource) -> Iterator[tuple[str, Grant]]:
        """Members whom grants give a role on a resource, whatever the time."""
        for (tenant, member), by_role in self._grants.items():
            if tenant == at.tenant and role in by_role:
                yield from ((member, grant) for grant in by_role[role].find(at.lineage))

    def rules(self, permission: str, at: names.Resource) -> tuple[Rule, ...]:
        """What applies to a permission on a resource, in the order in which it is asked. Raises CostlyError."""
        found: dict[str, Rule] = {}
        cost = 0
        for pattern in names.reaching(permission):
            index = self._rules.get((at.tenant, pattern))
            for rule in index.find(at.lineage) if index is not None else ():
                cost += RULE_COST
                if rule.policy.name not in found:
                    found[rule.policy.name] = rule
                    cost += rule.condition.cost if rule.condition is not None else 0
                if cost > MOST_TOGETHER:
                    raise CostlyError(f"policies about {permission} on {at.name} take too long together")
        return tuple(sorted(found.values(), key=attrgetter("order")))


def _builtin() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for role in builtin.ROLES:
        for pattern in role.permissions:
            found.setdefault(pattern, set()).add(role.name)
    return found


_BUILTIN: Final = _builtin()  # pattern of permissions → names


K = TypeVar("K")
KEY: Final = KINDS["key"]


def _owe(owed: dict[K, Counter[str]], key: K, obligations: frozenset[str]) -> None:
    if obligations:
        owed.setdefault(key, Counter()).update(obligations)


def _owe_no_more(owed: dict[K, Counter[str]], key: K, obligations: frozenset[str]) -> None:
    if obligations:
        left = owed[key] - Counter(obligations)  # without those of which there are none
        if left:
            owed[key] = left
        else:
            del owed[key]


def _name(item: Item) -> str:
    return item.id if isinstance(item, Grant) else item.name


def _identities(members: Iterable[str]) -> tuple[str, ...]:
    """As they are compared, but for API keys: those permit what they were issued for, and roles add nothing to it."""
    return tuple(
        member if member.startswith(names.GROUP) else names.identity(member)
        for member in dict.fromkeys(members)
        if not member.startswith(KEY)
    )


def _scopes(grant: Grant) -> tuple[str, ...]:
    return tuple(names.scope(resource, grant.tenant) for resource in dict.fromkeys(grant.resources))
