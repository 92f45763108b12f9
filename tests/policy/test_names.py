"""Names of resources, permissions and identities, and what patterns of them reach."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.patterns import path_pattern
from sidecar.policy.names import (
    NameFault,
    identity,
    permission,
    permissions,
    plain,
    reachable,
    reaching,
    resource,
    scope,
    segment,
)


def test_a_resource_knows_its_parents() -> None:
    found = resource("tenants/t/models/m/versions/3")
    assert (found.tenant, found.kind, found.id) == ("t", "models", "m")
    assert found.lineage == ("tenants/t/models/m/versions/3", "tenants/t/models/m", "tenants/t")
    assert resource("tenants/t") == ("tenants/t", "t", "", "", ("tenants/t",))


@pytest.mark.parametrize(
    "name",
    [
        "", "tenants", "tenants/", "models/m", "tenants/t/models", "tenants/t/models/", "tenants/t//m", "/tenants/t",
        "tenants/t/models/m/", "tenants/t/models/*", "tenants/*", "tenants/t/Models/m", "tenants/t/models/a\0b",
        "tenants/t/models/a\n", "tenants/t/models/" + "x" * 1024,
    ],
)  # fmt: skip
def test_what_is_no_resource(name: str) -> None:
    with pytest.raises(NameFault, match="expected tenants/TENANT/KIND/ID"):
        resource(name)


@pytest.mark.parametrize("text", ["a/versions/2", "../x", "*", "**", "a\0", "\ud800", "a%2Fb", "é", "fraud 1", "a\n"])
def test_a_name_that_callers_choose_begins_no_child(text: str) -> None:
    found = resource(f"tenants/t/models/{segment(text)}")
    assert found.kind == "models"
    assert len(found.lineage) == 2


def test_segments_differ_as_what_they_stand_for() -> None:
    texts = ("a/b", "a%2Fb", "a%b", "ab", "a b")
    assert len({segment(text) for text in texts}) == len(texts)
    assert segment("fraud-1.v2_x") == "fraud-1.v2_x"


@pytest.mark.parametrize(
    ("pattern", "name", "covers"),
    [
        ("models/fraud-*", "models/fraud-1", True),
        ("models/fraud-*", "models/fraud-1/versions/3", True),  # children
        ("models/fraud-*", "models/fraud", False),
        ("models/*", "models/m", True),
        ("models/*", "datasets/m", False),
        ("models/m", "models/m2", False),
        ("models/m/versions/1", "models/m", False),
        ("models/m/versions/*", "models/m/versions/1", True),
        ("*/m", "datasets/m", True),
        ("**", "models/m", True),
        ("**/versions/1", "models/m/versions/1", True),
        ("tenants/t/models/m", "models/m", True),
    ],
)
def test_what_a_pattern_of_resources_covers(pattern: str, name: str, covers: bool) -> None:
    full = path_pattern(scope(pattern, "t"))
    assert any(map(full.matches, resource(f"tenants/t/{name}").lineage)) is covers
    assert not any(map(full.matches, resource(f"tenants/t2/{name}").lineage))


def test_everything_is_the_tenant_itself() -> None:
    assert scope("**", "t") == scope("tenants/t", "t") == "tenants/t"


@pytest.mark.parametrize(
    "pattern",
    [
        "", "*", "models", "models/", "models//m", "models/m/versions", "tenants/u/models/m", "tenants/tt",
        "tenants/**", "tenants/*/models/m", "x/" * 2048,
    ],
)  # fmt: skip
def test_a_pattern_of_resources_that_would_reach_nothing_or_others_is_refused(pattern: str) -> None:
    with pytest.raises(NameFault):
        scope(pattern, "t")


@pytest.mark.parametrize(
    ("pattern", "spelt"),
    [
        ("models/modèle", "models/mod%C3%A8le"),
        ("models/a%2fb*", "models/a%2Fb*"),
        ("models/%61", "models/a"),
        ("models/frau?-*", "models/frau%3F-*"),
        ("models/a\n", "models/a%0A"),
        ("models/50%", "models/50%25"),
        ("models/\ud800", "models/%ED%A0%80"),
        ("tenants/t/models/<m>/versions/1", "models/%3Cm%3E/versions/1"),
    ],
)
def test_a_pattern_of_resources_is_spelt_as_they_are_or_refused(pattern: str, spelt: str) -> None:
    with pytest.raises(NameFault) as caught:
        scope(pattern, "t")
    assert caught.value.expected.endswith(f", {spelt}")
    assert scope(spelt, "t") == f"tenants/t/{spelt}"


@given(st.text(min_size=1, max_size=64))
def test_a_name_is_a_pattern_that_covers_it(name: str) -> None:
    spelt = segment(name)
    assert path_pattern(scope(f"models/{spelt}", "t")).matches(f"tenants/t/models/{spelt}")


def test_what_reaches_a_permission() -> None:
    assert reaching("models.inference") == ("models.inference", "models.*", "*")
    assert reaching("models.versions.read") == ("models.versions.read", "models.versions.*", "models.*", "*")


@pytest.mark.parametrize(
    "name",
    [
        "", "*", "models", "models.*", "models.", ".read", "Models.read", "models.read\n", "models..read",
        "models/read", "a.b" * 60,
    ],
)  # fmt: skip
def test_what_is_no_permission(name: str) -> None:
    with pytest.raises(NameFault, match="expected a permission such as"):
        permission(name)


@pytest.mark.parametrize(
    ("pattern", "sound"),
    [
        ("*", True), ("models.*", True), ("models.inference", True), ("models.versions.*", True), ("models", False),
        ("*.read", False), ("models.*.read", False), ("models.in*", False), ("**", False), ("", False),
        ("models.*\n", False),
    ],
)  # fmt: skip
def test_patterns_of_permissions(pattern: str, sound: bool) -> None:
    if sound:
        permissions(pattern)
    else:
        with pytest.raises(NameFault):
            permissions(pattern)


def test_identities_are_typed() -> None:
    assert identity("dns:A.Example.org") == "dns:a.example.org"
    assert identity("spiffe://Example.org/A*") == "spiffe://Example.org/A*"
    for text in ("alice", "*", "spiffe:/x", "group:x", "user:", "", "email:a@b"):
        with pytest.raises(NameFault, match="expected spiffe://… or dns:… or cn:… or user:… or key:…"):
            identity(text)


@pytest.mark.parametrize("name", ["", "a b", "-a", ".a", "a/b", "a*", "a\n", "é", "x" * 129])
def test_what_is_no_plain_name(name: str) -> None:
    with pytest.raises(NameFault, match="expected 1 to 128 letters"):
        plain(name)


@pytest.mark.parametrize(
    "pattern",
    [
        "models/m", "models/fraud-*", "**", "models/**", "models/*/versions/2", "tenants/t/models/a%2Fb", "models/a b",
        f"models/{'m' * 256}", f"models/{'%C3%A8' * 256}", f"models/{'m' * 256}*", "datasets/%00", "models/**/%00",
        "tenants/t", "models/%ED%A0%80",
    ],
)  # fmt: skip
def test_what_a_call_can_be_about(pattern: str) -> None:
    reachable(pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("models/a%2fb", "expected names as resources have them, models/a%2Fb"),
        ("models/%61", "expected names as resources have them, models/a"),
        ("models/è", "expected names as resources have them, models/%C3%A8"),
        ("models/a%00", "a model's name or version: 256 characters at most, and no NUL"),
        ("tenants/t/models/%00*", "no NUL"),
        ("models/m/versions/%00", "no NUL"),
        (f"models/{'m' * 257}", "256 characters"),
        (f"models/{'m' * 200}*{'m' * 57}", "256 characters"),
        (f"models/*/versions/{'1' * 257}", "256 characters"),
    ],
)
def test_what_no_call_can_be_about(pattern: str, expected: str) -> None:
    with pytest.raises(NameFault, match=re.escape(expected)):
        reachable(pattern)


@given(st.text(min_size=1, max_size=256))
def test_whatever_callers_may_name_can_be_asked_about(name: str) -> None:
    if "\0" not in name:
        reachable(f"tenants/t/models/{segment(name)}")
