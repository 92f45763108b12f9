"""What somebody has, and whether that is all that he would give."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interceptors.access import SENSITIVE
from interceptors.facts import Principal
from interceptors.patterns import path_pattern
from sidecar.policy import giving, names
from sidecar.policy.engine import Engine
from sidecar.policy.giving import Given, Lack
from sidecar.policy.model import Grant, Group, Item, Role

ADA = Principal("user", "user:corp/ada")
HOME = "tenants/default"


def engine(*items: Item) -> Engine:
    made = Engine()
    for item in items:
        made.put(item)
    return made


def lacking(wanted: Given, *had: Given) -> list[Lack]:
    return list(giving.lacking([wanted], had))


def everywhere(*permissions: str) -> Given:
    return Given(permissions, (HOME,))


@pytest.mark.parametrize(
    ("had", "wanted", "enough"),
    [
        ("models.read", "models.read", True),
        ("models.read", "models.train", False),
        ("models.read", "models.*", False),
        ("models.*", "models.read", True),
        ("models.*", "models.*", True),
        ("models.*", "models.versions.*", True),
        ("models.versions.*", "models.*", False),
        ("models.*", "modelsx.read", False),
        ("models.*", "*", False),
        ("*", "*", True),
        ("*", "models.*", True),
        ("*", "models.load_files", False),
        ("models.*", "models.load_files", False),
        ("models.load_files", "models.load_files", True),
        ("*", "roles.write", False),
        ("*", "roles.*", True),
    ],
)
def test_permissions(had: str, wanted: str, enough: bool) -> None:
    assert lacking(everywhere(wanted), everywhere(had)) == ([] if enough else [Lack(wanted, "")])


@pytest.mark.parametrize(
    ("had", "wanted", "enough"),
    [
        ("**", "**", True),
        ("**", "models/fraud-*", True),
        ("models/*", "**", False),
        ("models/*", "models/fraud-*", True),
        ("models/*", "models/fraud-1/versions/2", True),
        ("models/fraud-*", "models/*", False),
        ("models/fraud-*", "models/fraud-1", True),
        ("models/fraud-*", "models/fraud-a*b", True),
        ("models/fraud-*", "models/fraud-*/versions/1", True),
        ("models/fraud-*", "models/fraud-**", False),  # which crosses into children of others
        ("models/fraud-**", "models/fraud-*", True),
        ("models/fraud-1", "models/fraud-1/versions/*", True),
        ("models/fraud-1/versions/*", "models/fraud-1", False),
        ("models/*/versions/1", "models/fraud-1/versions/1", True),
        ("models/*/versions/1", "models/**", False),
        ("datasets/*", "models/x", False),
        ("models/**/versions/1", "models/a/versions/1", True),
    ],
)
def test_resources(had: str, wanted: str, enough: bool) -> None:
    held = Given(("models.read",), (names.scope(had, "default"),))
    scope = names.scope(wanted, "default")
    assert lacking(Given(("models.read",), (scope,)), held) == ([] if enough else [Lack("models.read", scope)])


def test_each_resource_may_be_had_by_another_grant() -> None:
    models, datasets = f"{HOME}/models/*", f"{HOME}/datasets/*"
    wanted = Given(("models.read", "models.train"), (f"{HOME}/models/m", f"{HOME}/datasets/d"))
    held = [Given(("models.read",), (models,)), Given(("models.*",), (datasets,)), Given(("models.train",), (models,))]
    assert lacking(wanted, *held) == []
    assert lacking(wanted, *held[:2]) == [Lack("models.train", f"{HOME}/models/m")]
    assert lacking(wanted) == [Lack("models.read", ""), Lack("models.train", "")]


def test_nothing_is_given_for_longer_or_with_fewer_obligations() -> None:
    pii, mfa = frozenset({"redact:pii"}), frozenset({"redact:pii", "require:mfa"})
    wanted = everywhere("models.read")._replace(expires=100.0, obligations=pii)
    assert lacking(wanted, everywhere("models.read")) == []
    assert lacking(wanted, wanted) == []
    assert lacking(wanted, wanted._replace(expires=99.0)) != []
    assert lacking(wanted, wanted._replace(obligations=mfa)) != []
    assert lacking(wanted._replace(expires=math.inf), wanted) != []


def test_what_somebody_has() -> None:
    items = (
        Role("ml", ("models.*",)),
        Group("team", ("user:corp/*",)),
        Grant("mine", ("user:corp/ada",), "ml", ("models/a",)),
        Grant("ours", ("group:team",), "ml", ("models/b",), expires=10.0),
        Grant("over", ("user:corp/ada",), "ml", ("models/c",), expires=1.0),
        Grant("early", ("user:corp/ada",), "ml", ("models/d",), begins=9.0),
        Grant("other", ("user:corp/ben",), "ml", ("models/e",)),
        Grant("gone", ("user:corp/ada",), "no-such-role", ("models/f",)),
    )
    made = engine(*items)
    assert {(each.scopes, each.expires) for each in giving.had(made, ADA, 5.0)} == {
        ((f"{HOME}/models/a",), math.inf), ((f"{HOME}/models/b",), 10.0),
    }  # fmt: skip
    asserted = Principal("user", "user:x/y", roles=frozenset({"ml", "builtin.viewer", "none"}))
    assert [each.scopes for each in giving.had(made, asserted, 5.0)] == [(HOME,), (HOME,)]
    assert giving.had(made, Principal("user", "user:corp/ada", "other"), 5.0) == []


def test_a_role_gives_what_it_did_not() -> None:
    before = Role("r", ("models.*", "datasets.read"))
    assert giving.of_role(before, None) == [everywhere("models.*", "datasets.read")]
    assert giving.of_role(before, before) == []
    assert giving.of_role(Role("r", ("models.read", "datasets.*")), before) == [everywhere("datasets.*")]
    assert giving.of_role(Role("r", ("models.load_files",)), before) == [everywhere("models.load_files")]


def test_a_group_gives_new_members_its_grants() -> None:
    before = Group("g", ("user:corp/ada",))
    made = engine(
        before,
        Grant("a", ("group:g", "user:corp/x"), "builtin.viewer", ("models/*",), expires=50.0),
        Grant("over", ("group:g",), "builtin.admin", ("**",), expires=5.0),
        Grant("h", ("group:h",), "builtin.admin", ("**",)),
    )
    more = Group("g", ("user:corp/ada", "user:corp/ben"))
    (got,) = giving.of_group(made, more, before, 5.0)
    assert (got.scopes, got.expires) == ((f"{HOME}/models/*",), 50.0)
    assert giving.of_group(made, before, more, 5.0) == []
    assert giving.of_group(made, more, None, 5.0) == [got]
    assert giving.of_group(made, Group("new", ("user:corp/ada",)), None, 5.0) == []


# Short texts over few characters, so that they meet.
SOME = st.text("ab/*", min_size=1, max_size=5)
TEXTS = ["".join(each) for size in range(5) for each in product("ab/", repeat=size)]


@settings(max_examples=2000, deadline=None)
@given(SOME, SOME)
def test_what_includes_another_pattern_covers_whatever_that_does(wide: str, narrow: str) -> None:
    if path_pattern(wide).includes(narrow):
        covered = [text for text in TEXTS if path_pattern(narrow).matches(text)]
        assert all(path_pattern(wide).matches(text) for text in covered)


@settings(max_examples=500, deadline=None)
@given(st.text("ab/", min_size=1, max_size=5), SOME)
def test_a_text_is_included_where_it_is_covered(text: str, pattern: str) -> None:
    assert path_pattern(pattern).includes(text) == path_pattern(pattern).matches(text)
    assert path_pattern(pattern).includes(pattern)


PERMISSIONS = ["*", "models.*", "models.read", "models.load_files", "roles.write", "roles.*", "datasets.read"]
RESOURCES = ["**", "models/*", "models/a*", "models/a/versions/1", "models/a**", "datasets/*"]
PARTS = st.tuples(st.lists(st.sampled_from(PERMISSIONS), min_size=1, max_size=3),
                  st.lists(st.sampled_from(RESOURCES), min_size=1, max_size=2))  # fmt: skip
ASKED = [
    (permission, f"{HOME}{resource}")
    for permission in (*sorted(SENSITIVE), "models.read", "datasets.read", "roles.read", "audit.read")
    for resource in ("", "/models/a", "/models/ab", "/models/b", "/models/a/versions/1", "/datasets/a")
]


@settings(max_examples=500, deadline=None)
@given(st.lists(PARTS, max_size=3), PARTS)
def test_who_may_give_something_is_already_allowed_it(
    had: list[tuple[list[str], list[str]]], wanted: tuple[list[str], list[str]]
) -> None:
    """The engine itself is the oracle: after what may be given is given to the giver too, he may do nothing more."""
    made = engine()
    for at, (permissions, resources) in enumerate(had):
        made.put(Role(f"r{at}", tuple(permissions)))
        made.put(Grant(f"g{at}", (ADA.name,), f"r{at}", tuple(resources)))
    made.put(Role("new", tuple(wanted[0])))
    new = Grant("new", (ADA.name,), "new", tuple(wanted[1]))
    if list(giving.lacking(giving.of_grant(made, new), giving.had(made, ADA, 1.0))):
        return
    before = [made.decide(ADA, permission, resource, now=1.0).allowed for permission, resource in ASKED]
    made.put(new)
    assert [made.decide(ADA, permission, resource, now=1.0).allowed for permission, resource in ASKED] == before
