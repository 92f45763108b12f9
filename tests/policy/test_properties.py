"""What holds of every set of roles, grants and policies: beside the rules said plainly, and under changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interceptors.facts import Principal
from interceptors.patterns import path_pattern
from sidecar.policy import builtin, names
from sidecar.policy.conditions import Scope, condition
from sidecar.policy.engine import Engine, objection
from sidecar.policy.model import Attributes, Effect, Grant, Group, Policy, Question, Role, Snapshot

PATTERNS = ("models.read", "models.*", "datasets.read", "*")
RESOURCES = ("**", "models/*", "models/a", "models/a*", "datasets/d", "*/a", "models/a/versions/*")
MEMBERS = ("user:a", "user:*", "user:b", "group:g", "group:h", "spiffe://**")
CONDITIONS = (
    "", "user.level >= 2", "user.level > dataset.level", "model.level == 1", "request.size < 5", "user.nosuch == 1",
    "has(user.nosuch)", "resource.level > user.level || request.size == 3", "user.level > 'x'",
)  # fmt: skip

ROLES = st.builds(
    Role, st.sampled_from(("r", "s")), st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2).map(tuple)
)
GROUPS = st.builds(
    Group, st.sampled_from(("g", "h")), st.lists(st.sampled_from(("user:a", "user:*", "user:b")), min_size=1).map(tuple)
)
BINDINGS = st.builds(
    Grant,
    st.sampled_from("12345"),
    st.lists(st.sampled_from(MEMBERS), min_size=1, max_size=2).map(tuple),
    st.sampled_from(("r", "s", "builtin.viewer", "nosuch")),
    st.lists(st.sampled_from(RESOURCES), min_size=1, max_size=2).map(tuple),
    begins=st.sampled_from((0.0, 5.0)),
    expires=st.sampled_from((10.0, float("inf"))),
)
POLICIES = st.builds(
    Policy,
    st.sampled_from("12345"),
    st.sampled_from(("allow", "deny")),
    st.sampled_from(CONDITIONS),
    st.lists(st.sampled_from(PATTERNS), max_size=2).map(tuple),
    st.lists(st.sampled_from(RESOURCES), max_size=2).map(tuple),
)


def _one_of_each(items: Any) -> Any:
    return st.lists(items, max_size=4, unique_by=lambda item: getattr(item, "id", getattr(item, "name", None))).map(
        tuple
    )


SNAPSHOTS = st.builds(
    Snapshot, st.just(1), _one_of_each(ROLES), _one_of_each(GROUPS), _one_of_each(BINDINGS), _one_of_each(POLICIES)
)
QUESTIONS = st.builds(
    Question,
    st.builds(
        Principal,
        st.just("user"),
        st.sampled_from(("user:a", "user:b")),
        roles=st.sampled_from((frozenset(), frozenset({"r"}), frozenset({"builtin.admin"}))),
        attributes=st.sampled_from(((), (("level", 1),), (("level", 2),), (("level", "x"),))),
    ),
    st.sampled_from(("models.read", "models.deploy", "datasets.read")),
    st.sampled_from(("models/a", "models/a/versions/1", "models/b", "datasets/d")).map(
        lambda name: f"tenants/default/{name}"
    ),
    st.builds(
        Attributes,
        st.sampled_from(({}, {"level": 1}, {"level": 2})),
        st.sampled_from(({}, {"size": 3}, {"size": 9})),
    ),
    st.sampled_from((0.0, 7.0, 12.0)),
)


def _some(random: Random, texts: Sequence[str], least: int = 1) -> tuple[str, ...]:
    return tuple(random.sample(texts, random.randint(least, 2)))


def _random_policy(random: Random) -> Policy:
    return Policy(
        random.choice("123456"),
        random.choice(("allow", "deny")),
        random.choice(CONDITIONS),
        _some(random, PATTERNS, 0),
        _some(random, RESOURCES, 0),
    )


def _random_snapshot(random: Random) -> Snapshot:
    grants = (
        Grant(
            f"b{at}",
            _some(random, MEMBERS),
            random.choice(("r", "s", "builtin.admin")),
            _some(random, RESOURCES),
            expires=random.choice((10.0, 20.0)),
        )
        for at in range(random.randint(1, 5))
    )
    roles = (Role(name, _some(random, PATTERNS)) for name in ("r", "s"))
    policies = (_random_policy(random) for _ in range(random.randint(0, 2)))
    return Snapshot(1, tuple(roles), (Group("g", ("user:a",)),), tuple(grants), tuple(policies))


def _random_question(random: Random) -> Question:
    level = random.choice(((), (("level", 1),), (("level", 3),), (("level", "x"),)))
    resource = random.choice(("models/a", "models/a/versions/1", "models/b", "datasets/d"))
    return Question(
        Principal("user", random.choice(("user:a", "user:b")), attributes=level),
        random.choice(("models.read", "models.deploy", "datasets.read")),
        f"tenants/default/{resource}",
        Attributes({"level": random.randint(0, 2)}, {"size": random.randint(0, 9)}),
        random.choice((5.0, 15.0)),
    )


def _asked(engine: Engine, question: Question) -> Any:
    return engine.decide(question.principal, question.permission, question.resource, question.attributes, question.now)


def _plainly(snapshot: Snapshot, question: Question) -> bool:
    """The rules as they are said, each thing asked in turn."""
    who, now = question.principal, question.now
    at = names.resource(question.resource)

    def of(members: tuple[str, ...]) -> bool:
        groups = {f"group:{group.name}": group.members for group in snapshot.groups}
        return any(
            of(groups.get(member, ())) if member.startswith("group:") else path_pattern(member).matches(who.name)
            for member in members
        )

    def about(resources: tuple[str, ...]) -> bool:
        return any(
            path_pattern(names.scope(text, "default")).matches(name) for text in resources for name in at.lineage
        )

    def permits(patterns: tuple[str, ...]) -> bool:
        asked = question.permission
        return any(text in ("*", asked) or (text.endswith(".*") and asked.startswith(text[:-1])) for text in patterns)

    granting = {role.name for role in (*builtin.ROLES, *snapshot.roles) if permits(role.permissions)}
    granted = bool(who.roles & granting) or any(
        grant.role in granting and of(grant.members) and about(grant.resources) and grant.begins <= now < grant.expires
        for grant in snapshot.grants
    )
    resource = {**question.attributes.resource, "name": at.name, "kind": at.kind, "id": at.id, "tenant": at.tenant}
    root = {"models": "model", "datasets": "dataset"}[at.kind]
    user = {**dict(who.attributes), "name": who.name}
    for policy in snapshot.policies:
        compiled = condition(policy.condition or "true")
        if policy.permissions or policy.resources:
            applies = (permits(policy.permissions) or not policy.permissions) and (
                about(policy.resources) or not policy.resources
            )
        else:
            applies = compiled.roots.isdisjoint({"model", "dataset"} - {root})
        if applies:
            scope = Scope({"user": user, "resource": resource, root: resource})
            granted = granted and not objection(
                policy, scope.outcome(compiled, {"request": question.attributes.request})
            )
    return granted


@settings(max_examples=400, deadline=None)
@given(SNAPSHOTS, st.lists(QUESTIONS, min_size=1, max_size=6))
def test_decisions_are_what_the_rules_say(snapshot: Snapshot, questions: list[Question]) -> None:
    engine = Engine(snapshot)
    for question in (*questions, *questions):  # and what was remembered is what was decided
        assert _asked(engine, question).allowed is _plainly(snapshot, question)


@pytest.mark.parametrize(("effect", "each"), [("deny", 100), ("allow", 10)])
def test_one_more_policy_never_allows_more(effect: Effect, each: int) -> None:
    """Of 10,000 random policies that deny and 1,000 that allow, on 100 random sets of everything else."""
    random = Random(5)
    allowed = tightened = 0
    for _ in range(100):
        engine = Engine(_random_snapshot(random))
        questions = [_random_question(random) for _ in range(6)]
        before = [_asked(engine, question).allowed for question in questions]
        allowed += sum(before)
        for _ in range(each):
            engine.put(replace(_random_policy(random), name="more", effect=effect))
            after = [_asked(engine, question).allowed for question in questions]
            assert not any(now and not was for was, now in zip(before, after, strict=True))
            tightened += before != after
            engine.drop(Policy, "default", "more")
        assert [_asked(engine, question).allowed for question in questions] == before
    # Or nothing was allowed to begin with, or no policy mattered.
    assert allowed > 60
    assert tightened > each * 5


@settings(max_examples=200, deadline=None)
@given(SNAPSHOTS, SNAPSHOTS, st.lists(QUESTIONS, min_size=1, max_size=4))
def test_changes_one_by_one_are_the_same_as_all_at_once(
    was: Snapshot, becomes: Snapshot, questions: list[Question]
) -> None:
    engine = Engine(was)
    for question in questions:
        _asked(engine, question)
    for kind, of in ((Role, was.roles), (Group, was.groups), (Policy, was.policies)):
        for name in [each.name for each in of]:
            engine.drop(kind, "default", name)
    for grant in was.grants:
        engine.drop(Grant, "default", grant.id)
    for items in (becomes.policies, becomes.grants, becomes.groups, becomes.roles):
        for item in items:
            engine.put(item)
    afresh = Engine(becomes)
    for question in questions:
        assert _asked(engine, question) == _asked(afresh, question)
