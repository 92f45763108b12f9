"""A token over its life: verified once, and looked at again each time it is presented."""

from __future__ import annotations

import base64
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from interceptors.contract import Code
from sidecar.identity import jwks
from sidecar.identity.jwks import KeySet
from sidecar.identity.jws import TokenError
from sidecar.identity.model import Identified, Issuer
from sidecar.identity.tokens import MOST_TRIED, StaleKeysError, Tokens, UnknownKeyError
from tests.identity.issuing import AUDIENCE, ISSUER, NOW, claims, encode, jwk, token
from tests.identity.issuing import jwks as key_set

LOGIN = Issuer("login", ISSUER, frozenset((AUDIENCE,)), frozenset(("ES256", "RS256")))
OTHER = Issuer("other", "https://other.example", frozenset((AUDIENCE,)), frozenset(("ES256",)))
CERTIFICATE = sha256(b"a certificate").digest()
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # FIPS 186-5, n


class Scene:
    """Tokens of two issuers, their keys, and what has been taken back."""

    def __init__(self, most_known: int = 8) -> None:
        self.revoked: set[object] = set()
        self.sets: dict[str, jwks.KeySet] = {}
        self.stale = False
        self.tokens = Tokens((LOGIN, OTHER), self, self._revoked, most_known)
        self.keys("login", jwk("ES256"))
        self.keys("other", jwk("ES256", which=1))

    def _revoked(self, who: Identified, digest: bytes) -> bool:
        return not self.revoked.isdisjoint((who.subject, digest))

    def keys(self, issuer: str, *keys: dict[str, Any]) -> None:
        self.sets[issuer] = jwks.read(key_set(*keys))

    def of(self, issuer: str, now: float) -> jwks.KeySet:
        if self.stale:
            raise StaleKeysError
        return self.sets.get(issuer, jwks.KeySet(()))

    def identify(self, text: str, certificate: bytes = b"", proven_key: str = "", now: float = NOW) -> Identified:
        return self.tokens.identify(text, certificate, proven_key, now)

    def refused(self, text: str, **presented: Any) -> str:
        with pytest.raises(TokenError) as raised:
            self.identify(text, **presented)
        return raised.value.reason.removeprefix("identify.token_")


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many tokens have been verified: for each a key is looked for."""
    made: list[int] = []
    find = KeySet.find

    def counted(*arguments: Any) -> Any:
        made.append(1)
        return find(*arguments)

    monkeypatch.setattr(KeySet, "find", counted)
    return lambda: len(made)


def test_a_token_is_verified_once(scene: Scene, verifications: Callable[[], int]) -> None:
    text = token(claims())
    assert [scene.identify(text).subject for _ in range(3)] == ["alice"] * 3
    assert verifications() == 1
    assert scene.identify(token(claims(sub="bob"))).subject == "bob"
    assert verifications() == 2


def test_what_is_remembered_is_bounded(verifications: Callable[[], int]) -> None:
    scene, texts = Scene(most_known=2), [token(claims(sub=name)) for name in ("a", "b", "c")]
    for text in (*texts, texts[0]):
        scene.identify(text)
    assert verifications() == 4


def test_one_that_is_known_is_over_in_its_time(scene: Scene) -> None:
    text = token(claims(exp=NOW + 10))
    scene.identify(text, now=NOW + 9.9)
    assert scene.refused(text, now=NOW + 10) == "expired"
    assert scene.refused(text, now=NOW + 11) == "expired"


def test_one_that_is_known_goes_with_the_key_that_signed_it(scene: Scene) -> None:
    text = token(claims())
    scene.identify(text)
    scene.keys("login", jwk("ES256"), jwk("ES256", "k2", which=2))
    scene.identify(text)
    scene.keys("login", jwk("ES256", "k1", which=2))  # another key under the same id
    assert scene.refused(text) == "key_withdrawn"
    scene.keys("login", jwk("ES256", "k9"))  # the same key under another id
    scene.identify(text)


@pytest.mark.parametrize("what", ["alice", "digest"])
def test_one_that_is_known_is_refused_once_revoked(scene: Scene, what: str) -> None:
    text = token(claims())
    scene.identify(text)
    scene.revoked.add(sha256(text.rpartition(".")[0].encode()).digest() if what == "digest" else what)
    assert scene.refused(text) == "revoked"
    another = token(claims(jti="2"))
    if what == "alice":
        assert scene.refused(another) == "revoked"
    else:
        scene.identify(another)


def test_another_spelling_of_its_signature_makes_no_other_token(scene: Scene) -> None:
    """Where (r, s) is a signature by ECDSA, so is (r, n - s): whoever has a token can make a second text of it."""
    text = token(claims())
    signed, _, signature = text.rpartition(".")
    octets = base64.urlsafe_b64decode(signature + "==")
    other = f"{signed}.{encode(octets[:32] + (P256_ORDER - int.from_bytes(octets[32:])).to_bytes(32))}"
    assert other != text
    assert scene.identify(other).subject == "alice"
    scene.revoked.add(sha256(signed.encode()).digest())
    assert scene.refused(text) == scene.refused(other) == "revoked"


def test_one_that_is_bound_is_its_holders_alone(scene: Scene) -> None:
    text = token(claims(cnf={"x5t#S256": encode(CERTIFICATE)}))
    for _ in range(2):  # found good once, it is no better in other hands
        assert scene.refused(text) == "not_bound_to_caller"
        assert scene.refused(text, certificate=bytes(32)) == "not_bound_to_caller"
        assert scene.refused(text, proven_key=encode(CERTIFICATE)) == "not_bound_to_caller"
        scene.identify(text, certificate=CERTIFICATE)


def test_one_that_is_bound_to_a_key_needs_its_proof(scene: Scene) -> None:
    text = token(claims(cnf={"jkt": encode(bytes(32))}))
    assert scene.refused(text, certificate=bytes(32)) == "not_bound_to_caller"
    assert scene.refused(text, proven_key=encode(CERTIFICATE)) == "not_bound_to_caller"
    scene.identify(text, proven_key=encode(bytes(32)))


def test_each_issuer_has_its_own_keys(scene: Scene) -> None:
    assert scene.identify(token(claims(iss=OTHER.url), which=1)).issuer == "other"
    assert scene.refused(token(claims(iss=OTHER.url))) == "signature"
    assert scene.refused(token(claims(), which=1)) == "signature"
    assert scene.refused(token(claims(iss="https://nobody.example"))) == "issuer"
    assert scene.refused(token(claims(iss=["x"]))) == "issuer"


def test_each_issuer_has_its_own_algorithms(scene: Scene) -> None:
    scene.keys("other", jwk("RS256"), jwk("ES256"))
    assert scene.refused(token(claims(iss=OTHER.url), "RS256")) == "algorithm"
    assert scene.refused(token(claims(), "PS256")) == "algorithm"


def test_a_key_that_is_not_known_may_be_a_new_one_of_its_issuers(scene: Scene) -> None:
    text = token(claims(), header={"kid": "k2"}, which=2)
    with pytest.raises(UnknownKeyError) as raised:
        scene.identify(text)
    assert (raised.value.issuer, raised.value.reason) == ("login", "identify.token_key")
    scene.keys("login", jwk("ES256"), jwk("ES256", "k2", which=2))
    assert scene.identify(text).subject == "alice"


def test_before_any_keys_are_there_nobody_is_known(scene: Scene) -> None:
    """Nor are those any more who were: whoever fetches keys may have begun anew, which is no fault of a token."""
    known, new = token(claims()), token(claims(jti="new"))
    scene.identify(known)
    scene.sets.clear()
    for text in (known, new):
        with pytest.raises(UnknownKeyError):
            scene.identify(text)


def test_keys_that_may_have_changed_let_nobody_in(scene: Scene) -> None:
    known, new = token(claims()), token(claims(jti="new"))
    scene.identify(known)
    scene.stale = True
    for text in (known, new):
        with pytest.raises(StaleKeysError) as raised:
            scene.identify(text)
        assert raised.value.code is Code.UNAVAILABLE
    scene.stale = False
    assert scene.identify(known).subject == "alice"


def test_a_token_without_a_key_id_is_tried_with_few(scene: Scene) -> None:
    text = token(claims(), header={"kid": ""}, which=3)
    scene.keys("login", *(jwk("ES256", f"k{which}", which=which) for which in range(MOST_TRIED)))
    assert scene.identify(text).subject == "alice"
    scene.keys("login", *(jwk("ES256", f"k{which}", which=which) for which in range(MOST_TRIED + 1)))
    # Though one of them has signed it.
    assert scene.refused(token(claims(jti="new"), header={"kid": ""}, which=3)) == "key_ambiguous"


def test_claims_count_only_once_the_signature_does(scene: Scene) -> None:
    """Else what is refused would tell a forger which of its claims are right."""
    assert scene.refused(token(claims(aud="other", exp=0), which=1)) == "signature"
