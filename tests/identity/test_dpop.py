"""Proofs of possession: the RFCs' own examples, what another implementation makes, and what an attacker would."""

from __future__ import annotations

import base64
import json
from math import inf
from typing import Any

import pytest
from joserfc.jwk import OctKey

from interceptors.contract import Deny
from interceptors.ledger import Bucket
from interceptors.tokens import KeysWanted, Once, Proof, Proven
from sidecar.identity import dpop, jwks
from sidecar.identity.credentials import Credentials
from sidecar.identity.dpop import Proofs, normal, thumbprint
from sidecar.identity.held import Held, Told
from sidecar.identity.jws import TokenError
from sidecar.identity.model import Issuer
from sidecar.identity.tokens import Tokens
from tests.identity.issuing import AUDIENCE, ISSUER, NOW, claims, encode, jwk, token
from tests.identity.issuing import jwks as key_set
from tests.identity.proving import ORIGIN, PATH, ath, key, proof, relabelled

ALGORITHMS = ("RS256", "ES256", "EdDSA", "Ed25519")
# RFC 9449, figures 12 and 13 (the proof), 4 (its key), 9 (`jkt`); 2 (a proof without `ath`).
RFC_TOKEN = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
RFC_HEADER = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo"
    "RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19"
)
RFC_PROOF = (
    f"{RFC_HEADER}.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9"
    "wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFF"
    "byJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
)
RFC_TOKEN_PROOF = (
    f"{RFC_HEADER}.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3R"
    "va2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)
RFC_JKT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def given(*proofs: str, path: str = PATH, again: bool = False) -> Proof:
    return Proof(tuple(each.encode() for each in proofs), path, again)


def bound(which: int = 0, kind: str = "EC", **changed: Any) -> str:
    """A token that is bound to a key."""
    return token(claims(cnf={"jkt": key(which, kind).thumbprint()}, **changed))


class Scene:
    def __init__(self, algorithms: tuple[str, ...] = ALGORITHMS) -> None:
        issuer = Issuer("login", ISSUER, frozenset((AUDIENCE,)), frozenset(("ES256",)))
        held = Held({"login": jwks.read(key_set(jwk("ES256")))}, {}, Told(lambda: inf), 5.0)
        tokens = Tokens((issuer,), held, lambda who, digest: False)
        self.credentials = Credentials(tokens, None, 5.0, Proofs((ORIGIN,), algorithms, 60.0))

    def identify(self, text: str, *proofs: str, now: float = NOW, **more: Any) -> Any:
        return self.credentials.identify(text, "", now, given(*proofs, **more))

    def reason(self, text: str, *proofs: str, **more: Any) -> str:
        found = self.identify(text, *proofs, **more)
        return found.reason.removeprefix("identify.token_") if isinstance(found, Deny) else ""


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- the RFCs' examples -----------------------------------------------------------------------------------------


def test_the_resource_request_of_rfc_9449(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpop, "METHOD", "GET")  # what no call of gRPC is
    proofs = Proofs(("https://resource.example.org",), ("ES256",), 60.0)
    read = proofs.read(given(RFC_PROOF, path="/protectedresource"), RFC_TOKEN, 1562262618.0)
    assert (read.thumbprint, read.proof_id) == (RFC_JKT, "e1j3V_bKic8-LAEB")
    proofs.verify(read)
    assert ath(RFC_TOKEN) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
    damaged = RFC_PROOF[:-2] + ("A" if RFC_PROOF[-2] != "A" else "B") + RFC_PROOF[-1]
    with pytest.raises(TokenError, match="signature"):
        proofs.verify(proofs.read(given(damaged, path="/protectedresource"), RFC_TOKEN, 1562262618.0))


def test_the_token_request_of_rfc_9449_is_for_no_resource() -> None:
    proofs = Proofs(("https://server.example.com",), ("ES256",), 60.0)
    with pytest.raises(TokenError, match="token_proof_token"):
        proofs.read(given(RFC_TOKEN_PROOF, path="/token"), RFC_TOKEN, 1562262616.0)


def test_the_thumbprint_of_rfc_7638() -> None:
    """3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    example = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(example) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("kind", ["EC", "RSA", "OKP"])
def test_thumbprints_are_those_of_another_implementation(kind: str) -> None:
    assert thumbprint(key(0, kind).as_dict(private=False)) == key(0, kind).thumbprint()


# --- good ones --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["EC", "RSA", "OKP"])
def test_a_token_is_good_with_a_proof_that_was_not_used(scene: Scene, kind: str) -> None:
    text, held = bound(0, kind), key(0, kind)
    found = scene.identify(text, proof(text, NOW, held))
    assert isinstance(found, Once)
    assert found.proven.principal.name == "user:login/alice"
    (charge,) = found.charges
    assert charge.bucket == Bucket(1, 121, 1)  # a minute ahead, until a minute behind, and a second
    other = scene.identify(text, proof(text, NOW, held, jti="p2"))
    assert other.charges[0].key != charge.key
    assert scene.identify(text, proof(text, NOW, held, htu=f"{ORIGIN}{PATH}?a=b#c")).charges == (charge,)


def test_of_a_call_under_way_it_need_be_neither_fresh_nor_unused(scene: Scene) -> None:
    text = bound()
    given_ = proof(text, NOW)
    found = scene.identify(text, given_, now=NOW + 200, again=True)
    assert isinstance(found, Proven)
    assert scene.reason(text, given_, now=NOW + 300, again=True) == "expired"
    assert scene.reason(text, proof(text, NOW, signer=key(1)), now=NOW + 200, again=True) == "proof_signature"


def test_the_issuers_keys_are_wanted_first(scene: Scene) -> None:
    text = token(claims(cnf={"jkt": key().thumbprint()}), header={"kid": "k2"})
    assert isinstance(scene.identify(text, proof(text, NOW)), KeysWanted)


# --- attacks ----------------------------------------------------------------------------------------------------


def test_a_stolen_token_without_its_key(scene: Scene) -> None:
    text = bound()
    found = scene.credentials.identify(text, "", NOW)  # as a bearer's
    assert isinstance(found, Deny)
    assert found.reason == "identify.token_not_bound_to_caller"
    assert scene.reason(text, proof(text, NOW, key(1))) == "not_bound_to_caller"  # by the thief's own key
    mixed = proof(text, NOW, key(), signer=key(1))  # the holder's key in the header, the thief's signature
    assert scene.reason(text, mixed) == "proof_signature"
    assert scene.reason(text) == "proof_missing"
    assert scene.reason(text, proof(text, NOW), proof(text, NOW, jti="p2")) == "proof_several"


def test_a_proof_is_not_taken_for_what_asks_for_none(scene: Scene) -> None:
    plain, by_certificate = token(claims()), token(claims(cnf={"x5t#S256": key().thumbprint()}))
    assert scene.reason(plain, proof(plain, NOW)) == "unbound"
    assert scene.reason(by_certificate, proof(by_certificate, NOW)) == "not_bound_to_caller"
    found = scene.credentials.identify(
        by_certificate, base64.urlsafe_b64decode(key().thumbprint() + "=").hex(), NOW, given(proof(by_certificate, NOW))
    )
    assert isinstance(found, Deny)
    assert found.reason == "identify.token_unbound"


ATTACKS: list[tuple[dict[str, Any], str]] = [
    ({"htm": "GET"}, "method"),
    ({"htm": "post"}, "method"),
    ({"htm": None}, "method"),
    ({"htu": None}, "uri"),
    ({"htu": 1}, "uri"),
    ({"htu": ""}, "uri"),
    ({"htu": PATH}, "uri"),
    ({"htu": ORIGIN}, "uri"),
    ({"htu": ORIGIN + "/e2e.Echo/Stream"}, "uri"),
    ({"htu": ORIGIN + PATH + "/"}, "uri"),
    ({"htu": ORIGIN + "/x" + PATH}, "uri"),
    ({"htu": ORIGIN + "/e2e.echo/unary"}, "uri"),
    ({"htu": "http://models.example.org:8443" + PATH}, "uri"),
    ({"htu": "https://models.example.org" + PATH}, "uri"),
    ({"htu": "https://evil.example:8443" + PATH}, "uri"),
    ({"htu": "https://evil.example/?" + ORIGIN + PATH}, "uri"),
    ({"htu": "https://evil.example/#" + ORIGIN + PATH}, "uri"),
    ({"htu": "https://models.example.org:8443@evil.example" + PATH}, "uri"),
    ({"htu": "https://u@models.example.org:8443" + PATH}, "uri"),
    ({"htu": "https://models.example.org:8443\\@evil.example" + PATH}, "uri"),
    ({"iat": NOW - 61}, "time"),
    ({"iat": NOW + 61}, "time"),
    ({"iat": None}, "time"),
    ({"iat": "now"}, "time"),
    ({"iat": True}, "time"),
    ({"ath": None}, "token"),
    ({"ath": ath("another")}, "token"),
    ({"ath": ath("another") + "="}, "token"),
    ({"jti": None}, "id"),
    ({"jti": ""}, "id"),
    ({"jti": 1}, "id"),
    ({"jti": "x" * 257}, "id"),
    ({"header": {"typ": None}}, "type"),
    ({"header": {"typ": "JWT"}}, "type"),
    ({"header": {"typ": "dpop+jwt2"}}, "type"),
    ({"header": {"jwk": None}}, "key"),
    ({"header": {"jwk": {}}}, "key"),
    ({"header": {"jwk": {"kty": ["EC"]}}}, "key"),
    ({"header": {"jwk": {"kty": "oct", "k": "AAAA"}}}, "key"),
    ({"header": {"jwk": key().as_dict(private=True)}}, "key"),
    ({"header": {"jwk": key(0, "RSA").as_dict(private=True)}}, "key"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "why"), ATTACKS, ids=[str(index) for index in range(len(ATTACKS))])
def test_what_is_not_for_this_call_is_refused(scene: Scene, changed: dict[str, Any], why: str) -> None:
    text = bound()
    assert scene.reason(text, proof(text, NOW, **changed)) == f"proof_{why}"


def test_headers_that_no_library_writes_are_refused(scene: Scene) -> None:
    text = bound()
    for changed, why in (
        ({"crit": ["x"]}, "malformed"),
        ({"alg": 1}, "malformed"),
        ({"jwk": "x"}, "key"),
        ({"jwk": [key().as_dict(private=False)]}, "key"),
        ({"jwk": {"kty": "EC", "crv": "P-256", "x": 1, "y": 2}}, "key"),
    ):
        assert scene.reason(text, relabelled(proof(text, NOW), **changed)) == f"proof_{why}", changed


def test_no_proof_is_signed_by_a_secret_or_by_nothing(scene: Scene) -> None:
    text = bound()
    public = OctKey.import_key(json.dumps(key().as_dict(private=False), sort_keys=True))  # what anybody knows
    assert scene.reason(text, proof(text, NOW, header={"alg": "HS256"}, signer=public)) == "proof_algorithm"
    head = {"typ": "dpop+jwt", "alg": "none", "jwk": key().as_dict(private=False)}
    body = {"jti": "p", "htm": "POST", "htu": ORIGIN + PATH, "iat": NOW, "ath": ath(text)}
    unsigned = ".".join((encode(json.dumps(head).encode()), encode(json.dumps(body).encode())))
    assert scene.reason(text, f"{unsigned}.AAAA") == "proof_algorithm"
    assert scene.reason(text, f"{unsigned}.") == "proof_malformed"
    assert scene.reason(text, "") == "proof_malformed"
    assert scene.reason(text, "x" * 20_000) == "proof_malformed"


def test_algorithms_are_those_that_are_offered() -> None:
    scene, text = Scene(("EdDSA",)), bound()
    assert scene.reason(text, proof(text, NOW)) == "proof_algorithm"
    text = bound(0, "RSA")
    assert Scene(("RS256",)).reason(text, proof(text, NOW, key(0, "RSA"))) == ""


def test_every_bit_of_a_proof_counts(scene: Scene) -> None:
    text = bound()
    good = proof(text, NOW)
    assert scene.reason(text, good) == ""
    for at in range(len(good)):
        flipped = good[:at] + chr(ord(good[at]) ^ 1) + good[at + 1 :]
        assert isinstance(scene.identify(text, flipped), Deny), at
    for end in range(0, len(good), 7):
        assert isinstance(scene.identify(text, good[:end]), Deny), end


def test_a_key_that_is_remembered_is_remembered_by_all_of_it(scene: Scene) -> None:
    text = bound()
    assert scene.reason(text, proof(text, NOW)) == ""
    other = {**key().as_dict(private=False), "x": key(1).as_dict(private=False)["x"]}
    assert scene.reason(text, proof(text, NOW, header={"jwk": other})) == "not_bound_to_caller"
    # Named for another use, it is another's claim about the same key; it was good for this one.
    assert scene.reason(text, proof(text, NOW, header={"jwk": {**key().as_dict(private=False), "kid": "x"}})) == ""


@pytest.mark.parametrize(
    ("uri", "same"),
    [
        ("HTTPS://Models.Example.ORG/a.B/C", "https://models.example.org/a.B/C"),
        ("https://models.example.org:443/a.B/C?x#y", "https://models.example.org/a.B/C"),
        ("http://models.example.org:80", "http://models.example.org/"),
        ("http://models.example.org:443/a", "http://models.example.org:443/a"),
        ("https://models.example.org/%61%2EB%5f/C", "https://models.example.org/a.B_/C"),
        ("https://models.example.org/a%2FB", "https://models.example.org/a%2FB"),
        ("ftp://models.example.org/a", ""),
        ("https:///a", ""),
        ("https://a b/c", ""),
        ("models.example.org/a", ""),
    ],
)
def test_uris_compare_in_one_spelling(uri: str, same: str) -> None:
    assert normal(uri) == same
