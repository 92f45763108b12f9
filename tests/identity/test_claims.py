"""What a token may say: each claim at its edges, and what an issuer may say of whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.identity.claims import identify
from sidecar.identity.jws import TokenError, parse
from sidecar.identity.model import SKEW_S, Binding, Identified, Issuer
from tests.identity.issuing import AUDIENCE, ISSUER, NOW, claims, encode, token

PLAIN = Issuer("login", ISSUER, frozenset((AUDIENCE,)), frozenset(("ES256",)))
FULL = replace(
    PLAIN,
    tenants=frozenset(("acme", "default")),
    tenant=("org",),
    roles=("realm_access", "roles"),
    granted={"ml": "builtin.ml_engineer", "boss": "builtin.admin"},
    attributes={"department": ("department",), "level": ("hr", "level"), "groups": ("groups",)},
)
DIGEST = encode(bytes(32))


def said(issuer: Issuer = PLAIN, *, header: dict[str, Any] | None = None, **changed: Any) -> Identified:
    return identify(parse(token(claims(**changed), header=header)), issuer, NOW)


def refused(issuer: Issuer = PLAIN, *, header: dict[str, Any] | None = None, **changed: Any) -> str:
    with pytest.raises(TokenError) as raised:
        said(issuer, header=header, **changed)
    return raised.value.reason.removeprefix("identify.token_")


def test_a_good_token_says_who_calls() -> None:
    found = said(jti="t-1")
    assert found == Identified("login", "alice", "default", frozenset(), (), NOW + 300, NOW - 1, "t-1", None)


def test_it_ends_on_the_second_and_may_begin_a_little_ahead_of_our_clock() -> None:
    assert said(exp=NOW + 0.001).expires == NOW + 0.001
    assert refused(exp=NOW) == "expired"
    assert refused(exp=NOW - 1) == "expired"
    said(nbf=NOW + SKEW_S, iat=NOW + SKEW_S)
    assert refused(nbf=NOW + SKEW_S + 1) == refused(iat=NOW + SKEW_S + 1) == "early"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["1900000000", True, [1], {}, -1, 10**400, 1e308, 253_402_300_800])
def test_times_are_numbers(name: str, value: Any) -> None:
    assert refused(**{name: value}) == "time"


def test_a_token_has_an_end() -> None:
    assert refused(exp=None) == "time"
    assert said(iat=None).issued == 0.0


def test_a_token_is_no_longer_than_its_issuer_may_make_it() -> None:
    hour = replace(PLAIN, longest_s=3600.0)
    said(hour, iat=NOW, exp=NOW + 3600)
    assert refused(hour, iat=NOW, exp=NOW + 3601) == "lifetime"
    assert refused(hour, iat=None, exp=NOW + 10) == "lifetime"  # nobody can tell


@pytest.mark.parametrize("issuer", ["", ISSUER + "/", ISSUER.upper(), ISSUER[:-1], "http" + ISSUER[5:], None, [ISSUER]])
def test_the_issuer_is_spelt_exactly(issuer: object) -> None:
    assert refused(iss=issuer) == "issuer"


@pytest.mark.parametrize("audience", [None, "", "other", "SIDECAR", ["other"], [], [AUDIENCE, 1], {AUDIENCE: 1}, 7])
def test_a_token_for_others_is_none_for_us(audience: object) -> None:
    assert refused(aud=audience) == "audience"


def test_one_of_its_audiences_suffices() -> None:
    assert said(aud=["other", AUDIENCE]).subject == "alice"


@pytest.mark.parametrize(("kind", "taken"), [
    ("JWT", True), ("jwt", True), ("at+jwt", True), ("application/at+JWT", True), ("", True),
    ("dpop+jwt", False), ("logout+jwt", False), ("secevent+jwt", False), ("JOSE", False),
])  # fmt: skip
def test_a_token_that_is_for_something_else_is_refused(kind: str, taken: bool) -> None:
    header = {"typ": kind}
    if taken:
        said(header=header)
    else:
        assert refused(header=header) == "type"


@pytest.mark.parametrize("subject", [None, "", 7, ["alice"], "a" * 257, "ali\nce", "a\0", "\u202ealice", "a\ud800"])
def test_a_subject_is_a_name(subject: object) -> None:
    assert refused(sub=subject) == "subject"


def test_another_claim_may_name_the_caller() -> None:
    assert said(replace(PLAIN, subject=("email",)), email="a@example.org").subject == "a@example.org"
    assert refused(replace(PLAIN, subject=("email",))) == "subject"


@pytest.mark.parametrize("tenant", [None, "other", "ACME", "", 7, ["acme"]])
def test_an_issuer_names_no_tenant_but_its_own(tenant: object) -> None:
    assert refused(FULL, org=tenant) == "tenant"


def test_an_issuer_grants_what_the_config_lets_it_and_nothing_else() -> None:
    found = said(FULL, org="acme", realm_access={"roles": ["ml", "builtin.admin", "root"]})
    assert (found.tenant, found.roles) == ("acme", frozenset(("builtin.ml_engineer",)))
    assert said(PLAIN, realm_access={"roles": ["boss"]}, roles=["builtin.admin"]).roles == frozenset()
    assert said(replace(FULL, roles=("scope",)), org="acme", scope="openid ml").roles == {"builtin.ml_engineer"}
    assert said(FULL, org="acme").roles == frozenset()


@pytest.mark.parametrize("roles", [7, {"ml": 1}, ["ml", 7], ["ml"] * 257])
def test_roles_that_cannot_be_read_are_no_good_token(roles: object) -> None:
    assert refused(FULL, org="acme", realm_access={"roles": roles}) == "roles"


def test_attributes_are_texts_numbers_and_lists_of_texts() -> None:
    found = said(FULL, org="acme", department="risk", hr={"level": 3}, groups=["a", "b"])
    assert found.attributes == (("department", "risk"), ("level", 3), ("groups", ("a", "b")))
    assert said(FULL, org="acme").attributes == ()
    wrong: list[Any] = [{"a": 1}, [1], "x" * 257]
    for bad in wrong:
        assert refused(FULL, org="acme", department=bad) == "attribute"


def test_a_binding_that_is_not_known_makes_a_token_prove_nothing() -> None:
    assert said(cnf={"x5t#S256": DIGEST}).binding == Binding("x5t#S256", DIGEST)
    assert said(cnf={"jkt": DIGEST}).binding == Binding("jkt", DIGEST)
    wrong: list[Any] = [
        {},
        {"jwk": {}},
        {"kid": "k"},
        {"jkt": "short"},
        {"jkt": DIGEST, "x5t#S256": DIGEST},
        [],
        "x",
        7,
    ]
    for bad in wrong:
        assert refused(cnf=bad) == "binding"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
named = st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "org", "realm_access", "department"])


@settings(deadline=None)
@given(st.dictionaries(named, json_values, max_size=4))
def test_whatever_claims_hold_they_identify_or_are_refused(changed: dict[str, Any]) -> None:
    parsed = parse(token({**claims(org="acme"), **changed}))
    try:
        found = identify(parsed, FULL, NOW)
    except TokenError:
        return
    assert found.tenant in FULL.tenants
    assert found.roles <= {"builtin.ml_engineer", "builtin.admin"}
    assert found.expires > NOW
