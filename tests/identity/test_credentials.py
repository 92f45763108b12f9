"""What the chain is told of a token: who calls, why not, or that keys are wanted."""

from __future__ import annotations

from math import inf

from interceptors.contract import Code, Deny
from interceptors.facts import Credential, Principal
from interceptors.tokens import KeysWanted, Proven
from sidecar.identity import jwks
from sidecar.identity.credentials import Credentials
from sidecar.identity.held import Held, Told
from sidecar.identity.model import Issuer
from sidecar.identity.tokens import Tokens
from tests.identity.issuing import AUDIENCE, ISSUER, NOW, claims, encode, jwk, token
from tests.identity.issuing import jwks as key_set

LOGIN = Issuer(
    "login", ISSUER, frozenset((AUDIENCE,)), frozenset(("ES256",)), roles=("roles",), granted={"ml": "builtin.viewer"},
    attributes={"department": ("department",)},
)  # fmt: skip


def credentials() -> Credentials:
    held = Held({"login": jwks.read(key_set(jwk("ES256")))}, {}, Told(lambda: inf), 5.0)
    return Credentials(Tokens((LOGIN,), held, lambda who, digest: False), None, 5.0)


def test_a_caller_is_named_after_the_issuer_and_what_it_says() -> None:
    found = credentials().identify(token(claims(roles=["ml", "x"], department="risk")), "", NOW)
    roles, attributes = frozenset(("builtin.viewer",)), (("department", "risk"),)
    assert found == Proven(
        Principal("user", "user:login/alice", "default", roles, attributes), Credential("token", NOW - 1, NOW + 300)
    )


def test_a_refusal_tells_the_record_why_and_the_caller_nothing() -> None:
    for text, reason in (
        (token(claims(), which=1), "signature"),
        ("x", "malformed"),
        (token(claims(exp=1)), "expired"),
    ):
        found = credentials().identify(text, "", NOW)
        assert found == Deny(Code.UNAUTHENTICATED, f"identify.token_{reason}", "token is not valid")


def test_keys_are_wanted_of_an_issuer() -> None:
    found = credentials().identify(token(claims(), header={"kid": "k2"}), "", NOW)
    assert isinstance(found, KeysWanted)
    assert (found.issuer, found.otherwise.reason) == ("login", "identify.token_key")


def test_a_binding_is_to_the_certificate_as_facts_spell_it() -> None:
    text = token(claims(cnf={"x5t#S256": encode(bytes.fromhex("0a" * 32))}))
    assert isinstance(credentials().identify(text, "0a" * 32, NOW), Proven)
    assert isinstance(credentials().identify(text, "0b" * 32, NOW), Deny)
    assert isinstance(credentials().identify(text, "", NOW), Deny)
