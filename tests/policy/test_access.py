"""What conditions see of calls."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from interceptors.access import About
from interceptors.contract import ModelName, RawField
from interceptors.facts import Principal
from sidecar.policy.access import Given, PolicyAccess
from sidecar.policy.model import Grant, Item, Policy, Role
from tests.policy.knowing import NOBODY, STALENESS_S, Knowing, called

INFER = "models.inference"
ALICE = Principal("user", "user:okta/alice", attributes=(("clearance_level", 3),))
ML = Role("ml", (INFER,))
EVERYWHERE = Grant("g", ("user:**", "spiffe://**"), "ml", ("**",))
FRAUD = About(ModelName("fraud-1"), 10)
EU = (("eu", ip_network("10.0.0.0/8")), ("lab", ip_network("10.1.0.0/16")), ("six", ip_network("2001:db8::/32")))


def access(*items: Item, given: Given | None = None) -> PolicyAccess:
    at = Knowing()
    at.tell(*items)
    return PolicyAccess(at.known, given or Given(), STALENESS_S)


def holds(
    condition: str, about: About = FRAUD, who: Principal = ALICE, given: Given | None = None, **call: Any
) -> bool:
    """Whether a condition is true of a call."""
    made = access(ML, EVERYWHERE, Policy("p", "allow", condition, permissions=("*",)), given=given)
    decision = made.decide(who, INFER, about, called(**call), False)
    assert decision.reason in ("policy.allowed", "policy.unmet", "policy.missing", "policy.error")
    return decision.allowed


def test_what_a_request_is() -> None:
    assert holds("request.method == '/a.B/C'")
    assert holds("request.size == 10")
    assert holds("request.model == 'fraud-1' && request.version == ''")
    assert holds("request.version == '2'", About(ModelName("m", "2"), 0))
    assert not holds("request.model == ''", NOBODY)
    assert not holds("request.version == ''", NOBODY)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"x-purpose", b"fraud")], True),
        ([(b"x-purpose", b"other")], False),
        ([], False),
        ([(b"x-purpose", b"fraud"), (b"x-purpose", b"fraud")], False),  # which of them counts?
    ],
)
def test_metadata_that_the_config_names(headers: list[RawField], expected: bool) -> None:
    given = Given(metadata=(("purpose", b"x-purpose"),))
    assert holds("request.purpose == 'fraud'", given=given, headers=tuple(headers)) is expected
    assert not holds("request.purpose == 'fraud'", headers=tuple(headers))


@pytest.mark.parametrize(
    ("source", "location"),
    [
        ("10.2.0.1", "eu"),
        ("10.1.0.1", "lab"),
        ("::ffff:10.2.0.1", "eu"),
        ("2001:db8::7", "six"),
        ("192.0.2.1", None),
        ("unix", None),
    ],
)
def test_where_a_caller_is(source: str, location: str | None) -> None:
    given = Given(locations=EU)
    assert holds(f"environment.location == '{location}'", given=given, source=source) is (location is not None)
    assert holds(f"environment.source == '{source}'", given=given, source=source)
    assert not holds(f"environment.location == '{location}'", source=source)


def test_when_it_is() -> None:
    assert holds("environment.time.getHours() == 1", now=3600.0)


@pytest.mark.parametrize(
    ("model", "level"),
    [
        (ModelName("fraud-1"), 3),
        (ModelName("fraud-1", "2"), 3),
        (ModelName("fraud-special"), 5),
        (ModelName("other"), None),
        (ModelName("fraud-/x"), 3),
        (ModelName("x/fraud-1"), None),
    ],
)
def test_what_the_config_says_of_models(model: ModelName, level: int | None) -> None:
    given = Given(
        resources=(
            ("models/fraud-*", {"level": 3, "kind_of": "f"}),
            ("models/fraud-special", {"level": 5}),
            ("tenants/acme/models/other", {"level": 7}),
        )
    )
    about = About(model, 0)
    assert holds(f"model.level == {level or 0}", about, given=given) is (level is not None)
    if level is not None:
        assert holds("resource.kind_of == 'f' && resource.kind == 'models'", about, given=given)


def test_what_is_said_of_another_tenants_models_in_full() -> None:
    given = Given(resources=(("tenants/acme/models/*", {"level": 7}),))
    items = (Role("ml", (INFER,), "acme"), Grant("g", ("user:**",), "ml", ("**",), "acme"))
    made = access(*items, Policy("p", "allow", "model.level == 7", tenant="acme"), given=given)
    assert made.decide(Principal("user", "user:okta/a", "acme"), INFER, FRAUD, called(), False).allowed


def test_the_config_has_the_say_of_callers_before_their_tokens() -> None:
    given = Given(
        identities=(
            ("user:okta/*", {"team": ("fraud", "risk"), "clearance_level": 1}),
            ("spiffe://example.org/*", {"clearance_level": 9}),
        )
    )
    assert holds("'risk' in user.team && user.clearance_level == 1", given=given)
    assert holds("user.clearance_level == 3")
    workload = Principal("spiffe", "spiffe://example.org/w")
    assert holds("user.clearance_level == 9", who=workload, given=given)
    assert not holds("user.clearance_level == 9", who=workload)


def test_names_that_callers_choose_begin_no_child() -> None:
    narrow = Grant("g", ("user:**",), "ml", ("models/fraud-*/versions/1",))
    made = access(ML, narrow)

    def decide(model: ModelName) -> str:
        return made.decide(ALICE, INFER, About(model, 0), called(), False).reason

    assert decide(ModelName("fraud-1", "1")) == "policy.allowed"
    assert decide(ModelName("fraud-1/versions/1")) == "policy.no_grant"
    assert decide(ModelName("fraud-*", "1")) == "policy.allowed"  # a model of that very name
    assert decide(ModelName("x*", "1")) == "policy.no_grant"
    assert decide(ModelName("fraud-1", "1/versions/1")) == "policy.no_grant"
    assert decide(ModelName("")) == "policy.resource"


def test_decisions_are_remembered_and_what_they_depend_on_is_noted() -> None:
    at = Knowing()
    at.tell(ML, Grant("g", ("user:**",), "ml", ("**",), expires=50.0))
    made = PolicyAccess(at.known, Given(resources=(("models/*", {"level": 1}),)), STALENESS_S)
    first = made.decide(ALICE, INFER, FRAUD, called(), False)
    assert made.decide(ALICE, INFER, FRAUD, called(), False) is first
    assert at.known.due == 50.0
    made.begin(ALICE, INFER, called(), False)
    assert at.known.due == 50.0


def test_what_is_not_known_to_be_so_is_not_relied_upon() -> None:
    at = Knowing()
    made = PolicyAccess(at.known, Given(), STALENESS_S)
    assert not made.certain
    for granted in (False, True):
        assert made.begin(ALICE, INFER, called(), granted).reason == "policy.stale"
        assert made.decide(ALICE, INFER, FRAUD, called(), granted).reason == "policy.stale"
    at.tell()
    assert made.certain
    assert made.decide(ALICE, INFER, FRAUD, called(), True).allowed


def test_which_decide_alike() -> None:
    at = Knowing()
    given = Given(resources=(("models/*", {"level": 1}),))
    one = PolicyAccess(at.known, given, STALENESS_S)
    assert one.like(PolicyAccess(at.known, Given(resources=(("models/*", {"level": 1}),)), STALENESS_S))
    assert not one.like(None)
    assert not one.like(PolicyAccess(at.known, Given(), STALENESS_S))
    assert not one.like(PolicyAccess(at.known, given, 1.0))
    assert not one.like(PolicyAccess(Knowing().known, given, STALENESS_S))
