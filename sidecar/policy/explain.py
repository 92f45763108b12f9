"""Why a decision is what it is, what a change would do, and who can reach what; all of it for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from interceptors.authorize import KINDS
from sidecar.policy import names
from sidecar.policy.conditions import Outcome
from sidecar.policy.engine import Caller, Engine, moving_roots, objection
from sidecar.policy.model import Decision, Grant, Group, Item, Policy, Question, Role
from sidecar.policy.tables import Key
from sidecar.policy.validate import CostlyError

State: TypeAlias = Literal["active", "not begun", "expired", "another resource"]
MOST_SUGGESTED: Final = 5


@dataclass(frozen=True, slots=True)
class Considered:
    """A grant that gives the caller a role which has the permission, and whether it counts."""

    grant: Grant
    state: State


@dataclass(frozen=True, slots=True)
class Judged:
    """A policy that applies, and what its condition came to."""

    policy: Policy
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Explanation:
    """grants: those that count first.  policies: all that apply, asked or not.

    suggested: grants each of which would grant what no role grants, the one that gives least first.
    enough: whether one of them alone would change the decision; not so where a policy objects as well.
    """

    decision: Decision
    grants: tuple[Considered, ...] = ()
    policies: tuple[Judged, ...] = ()
    suggested: tuple[Grant, ...] = ()
    enough: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """A question to which the answer would be another."""

    question: Question
    before: Decision
    after: Decision


@dataclass(frozen=True, slots=True)
class Simulated:
    """changed: what would be denied first, then what would be allowed, then what would be obliged to something else.

    undecided: questions of which nothing can be said, for a condition asks for an attribute that they lack.
    lacking: by attribute, how many of them lack it, what most lack first.
    elsewhere: questions that were let in by somebody else than roles; of these policies alone are asked.
    """

    changed: tuple[Changed, ...]
    undecided: int
    lacking: tuple[tuple[str, int], ...] = ()
    elsewhere: int = 0


@dataclass(frozen=True, slots=True)
class Reach:
    """Someone who can reach a resource. member: a pattern of identities, or "role:NAME": whom a token gives that role.

    grant: None of such a role.  group: the one that they are in, "" for none.
    policies: names of those that must not object, and may.
    """

    member: str
    role: str
    grant: Grant | None
    group: str
    policies: tuple[str, ...]


def explain(engine: Engine, question: Question) -> Explanation:
    """Why, or why not, and which grant would change it."""
    decision = _decided(engine, question)
    try:
        at = names.resource(question.resource)
        granting = engine.granting(at.tenant, question.permission)
    except names.NameFault:
        return Explanation(decision)
    if question.principal.tenant != at.tenant:
        return Explanation(decision)
    caller = engine.caller(question.principal)
    try:
        rules = engine.rules(question.permission, at)
    except CostlyError:
        return Explanation(decision)
    scope, moving = (
        engine.scope(caller, at, question.attributes.resource),
        moving_roots(question.attributes, question.now),
    )
    judged = tuple(Judged(rule.policy, rule.outcome(scope, moving)) for rule in rules)
    considered = tuple(_considered(engine, caller, granting, at, question.now))
    if decision.reason != "policy.no_grant":
        return Explanation(decision, considered, judged)
    suggested = tuple(_suggested(engine, caller, granting, at))
    objected = any(objection(each.policy, each.outcome) for each in judged)
    return Explanation(decision, considered, judged, suggested, bool(suggested) and not objected)


def simulate(engine: Engine, put: Iterable[Item], drop: Iterable[Key], questions: Sequence[Question]) -> Simulated:
    """Those of recorded questions that a change would decide otherwise: allowed or not, or under other obligations.

    The change is made and taken back. Raises PolicyError, and then as well.
    """
    before = [_decided(engine, question) for question in questions]
    elsewhere = [
        question.let_in and decision.reason == "policy.no_grant"
        for question, decision in zip(questions, before, strict=True)
    ]
    for at, granted in enumerate(elsewhere):
        if granted:
            before[at] = _decided(engine, questions[at], granted)
    with changed(engine, put, drop):
        after = [_decided(engine, *each) for each in zip(questions, elsewhere, strict=True)]
    lacking: Counter[str] = Counter()
    undecided, others = 0, []
    for each in map(Changed, questions, before, after):
        if missing := {*each.before.missing, *each.after.missing}:
            undecided += 1
            lacking.update(missing)
        elif _outcome(each.before) != _outcome(each.after):
            others.append(each)
    others.sort(key=lambda each: (each.before.allowed == each.after.allowed, each.after.allowed))
    most_first = sorted(lacking.items(), key=lambda pair: (-pair[1], pair[0]))
    return Simulated(tuple(others), undecided, tuple(most_first), sum(elsewhere))


def _outcome(decision: Decision) -> tuple[bool, frozenset[str]]:
    return decision.allowed, decision.obligations


@contextmanager
def changed(engine: Engine, put: Iterable[Item], drop: Iterable[Key]) -> Iterator[None]:
    """As if it had been made, and taken back afterwards. Raises PolicyError, and then as well."""
    undo: list[tuple[Key, Item | None]] = []
    try:
        for key in drop:
            undo.append((key, engine.tables.get(*key)))
            engine.drop(*key)
        for item in put:
            key = (type(item), item.tenant, item.id if isinstance(item, Grant) else item.name)
            undo.append((key, engine.tables.get(*key)))
            engine.put(item)
        yield
    finally:
        for key, was in reversed(undo):
            engine.drop(*key) if was is None else engine.put(was)


def reach(engine: Engine, permission: str, resource: str, now: float) -> Iterator[Reach]:
    """Who can do what `permission` names with a resource at `now`. Raises NameFault and CostlyError.

    Nobody, where a policy without a condition denies.
    """
    at = names.resource(resource)
    rules = engine.rules(permission, at)
    if any(rule.policy.effect == "deny" and rule.condition is None for rule in rules):
        return
    policies = tuple(rule.policy.name for rule in rules if rule.condition is not None)
    for role in sorted(engine.granting(at.tenant, permission)):
        yield Reach(f"role:{role}", role, None, "", policies)
        for member, grant in engine.tables.everyone(role, at):
            if grant.begins <= now < grant.expires:
                for who, group in _members(engine, at.tenant, member):
                    yield Reach(who, role, grant, group, policies)


def _members(engine: Engine, tenant: str, member: str) -> Iterator[tuple[str, str]]:
    if not member.startswith(names.GROUP):
        yield member, ""
        return
    group = engine.tables.get(Group, tenant, member.removeprefix(names.GROUP))
    if group is not None:
        yield from ((who, group.name) for who in group.members if not who.startswith(KINDS["key"]))


def _considered(
    engine: Engine, caller: Caller, granting: frozenset[str], at: names.Resource, now: float
) -> Iterator[Considered]:
    covering = engine.tables.grants(caller.members, granting, at)
    for grant in covering:
        yield Considered(
            grant,
            "not begun" if now < grant.begins else "expired" if now >= grant.expires else "active",
        )
    covers = {grant.id for grant in covering}
    held = {grant.id: grant for grant in engine.tables.held(caller.members, granting, at.tenant)}
    for grant in held.values():
        if grant.id not in covers:
            yield Considered(grant, "another resource")


def _suggested(engine: Engine, caller: Caller, granting: frozenset[str], at: names.Resource) -> Iterator[Grant]:
    name = caller.principal.name
    if "*" in name:  # which as a member would be a pattern, and give it to others as well
        return
    if caller.principal.kind == "key":  # to which nothing is granted
        return
    known = {role.name: role for role in engine.tables.roles(at.tenant)}
    resource = at.name.removeprefix(f"tenants/{at.tenant}").removeprefix("/") or names.EVERYTHING
    for role in sorted((known[role] for role in granting), key=_breadth)[:MOST_SUGGESTED]:
        yield Grant("suggested", (name,), role.name, (resource,), at.tenant)


def _breadth(role: Role) -> tuple[bool, int, int, str]:
    """How much a role gives: all, patterns, permissions."""
    patterns = sum(permission.endswith("*") for permission in role.permissions)
    return "*" in role.permissions, patterns, len(role.permissions), role.name


def _decided(engine: Engine, question: Question, granted: bool = False) -> Decision:
    return engine.decide(
        question.principal, question.permission, question.resource, question.attributes, question.now, granted
    )
