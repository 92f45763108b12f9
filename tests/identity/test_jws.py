"""Tokens and their signatures: published vectors, and what nobody must get past."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.identity import jwks
from sidecar.identity.jws import LONGEST, Token, TokenError, parse, verify
from tests.identity.issuing import claims, encode, jwk, private, token
from tests.identity.issuing import jwks as key_set

OFFERED = sorted(jwks.ALGORITHMS)
VECTORS = Path(__file__).parent.parent / "vectors" / "jose"


def keys(*algorithms: str) -> jwks.KeySet:
    return jwks.read(key_set(*(jwk(each, each) for each in algorithms)))


def accepted(text: str, among: jwks.KeySet) -> bool:
    """Whether any key of the set takes it, as an attacker would have it: each is tried."""
    try:
        taken = parse(text)
    except TokenError:
        return False
    for key in among.keys:
        try:
            verify(taken, key)
        except TokenError:
            continue
        return True
    return False


ALL = keys("RS256", "ES256", "ES384", "ES512", "EdDSA")


@pytest.mark.parametrize("algorithm", OFFERED)
def test_a_token_of_each_algorithm_offered_is_taken_by_its_key_alone(algorithm: str) -> None:
    text = token(claims(), algorithm)
    (key,) = keys(algorithm).keys
    verify(parse(text), key)
    stranger = jwks.read(key_set(jwk(algorithm, which=1)))
    assert not accepted(text, stranger)


@pytest.mark.parametrize(
    ("file", "algorithm"),
    [
        ("jws/4_1.rsa_v15_signature.json", "RS256"),
        ("jws/4_2.rsa-pss_signature.json", "PS384"),
        ("jws/4_3.ecdsa_signature.json", "ES512"),
        ("curve25519/jws.json", "EdDSA"),
    ],
)
def test_the_vectors_of_rfc_7520_and_rfc_8037(file: str, algorithm: str) -> None:
    """Their payload is a text, which no token's is: the signature is what is looked at."""
    vector = json.loads((VECTORS / file).read_text())
    (key,) = jwks.read(key_set(vector["input"]["key"])).keys
    text = vector["output"]["compact"]
    signed, _, signature = text.rpartition(".")
    octets = base64.urlsafe_b64decode(signature + "==")
    verify(Token(algorithm, "", "", {}, signed.encode(), octets), key)
    changed = bytes((octets[0] ^ 1, *octets[1:]))
    with pytest.raises(TokenError, match=r"identify\.token_signature"):
        verify(Token(algorithm, "", "", {}, signed.encode(), changed), key)


def test_the_vector_of_a_secret_shared_with_the_issuer_has_no_key_here() -> None:
    vector = json.loads((VECTORS / "jws/4_4.hmac-sha2_integrity_protection.json").read_text())
    with pytest.raises(jwks.KeySetError):
        jwks.read(key_set(vector["input"]["key"]))


def test_a_token_without_a_signature_is_none() -> None:
    said = encode(json.dumps(claims()).encode())
    for algorithm in ("none", "None", "NONE", "nOnE", ""):
        head = encode(json.dumps({"alg": algorithm, "kid": "ES256"}).encode())
        for signature in ("", "AA", token(claims()).rpartition(".")[2]):
            assert not accepted(f"{head}.{said}.{signature}", ALL)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_secret_to_sign_with(algorithm: str) -> None:
    """RS/HS confusion: the set's own octets, the key in each of its spellings, are tried as the secret."""
    public: Any = private("RS256").public_key()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    secrets = [
        public.public_bytes(encoding, form)
        for encoding in (Encoding.PEM, Encoding.DER)
        for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1)
    ]
    secrets += [json.dumps(jwk("RS256")).encode(), b"", jwk("RS256")["n"].encode()]
    head = encode(json.dumps({"alg": algorithm, "kid": "RS256"}).encode())
    signed = f"{head}.{encode(json.dumps(claims()).encode())}"
    for secret in secrets:
        signature = hmac.digest(secret, signed.encode(), getattr(hashlib, f"sha{algorithm[2:]}"))
        assert not accepted(f"{signed}.{encode(signature)}", ALL)


def test_no_key_verifies_by_another_kinds_algorithm() -> None:
    for signer in ("RS256", "ES256", "EdDSA"):
        for named in (*OFFERED, "ES256K", "Ed448", "RSA-OAEP", "dir"):
            fits = named == signer or {named, signer} == jwks.EDWARDS
            assert accepted(token(claims(), signer, header={"alg": named}), ALL) == fits


@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_that_a_token_brings_is_never_looked_at(member: str) -> None:
    own = jwk("ES256", which=1)
    brought: dict[str, object] = {
        "jwk": own,
        "jku": "https://attacker.example/keys",
        "x5u": "file:///etc/passwd",
        "x5c": ["MIIB"],
    }
    assert not accepted(token(claims(), "ES256", which=1, header={member: brought[member]}), ALL)
    assert accepted(token(claims(), "ES256", header={member: brought[member]}), ALL)


@pytest.mark.parametrize("key_id", ["../../etc/passwd", "k1' OR '1'='1", "k1; DROP TABLE keys", "\0", "/dev/null", "🗝"])
def test_a_key_id_is_compared_and_nothing_else(key_id: str) -> None:
    assert keys("ES256").find(parse(token(claims(), header={"kid": key_id})).key_id, "ES256") == ()


def test_ten_thousand_bit_flips_and_cuts_are_none_accepted() -> None:
    random = Random(7)
    texts = [token(claims(), algorithm) for algorithm in ("RS256", "ES256", "EdDSA")]
    for text in texts:
        assert accepted(text, ALL)
    for number in range(10_000):
        text = texts[number % len(texts)]
        if number % 5:
            octets = bytearray(text.encode())
            octets[random.randrange(len(octets))] ^= 1 << random.randrange(8)
            changed = octets.decode("latin-1")
        else:
            changed = text[: random.randrange(len(text))]
        assert not accepted(changed, ALL), changed


def test_a_signature_has_one_spelling() -> None:
    """The bits behind the last octet that base64url leaves over: a token's digest must stand for what it says."""
    text = token(claims(), "ES256")  # 64 octets: 86 characters, of whose last 4 bits are left over
    spelt = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same = [text[:-1] + last for last in spelt if accepted(text[:-1] + last, ALL)]
    assert same == [text]


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "a.b", "a.b.c.d", "a.b.c.d.e", " a.b.c", "a.b.c\n", "a=.b.c", "a+.b.c",
        "é.b.c", "a.b." + "c" * LONGEST,
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused_as_one(text: str) -> None:
    with pytest.raises(TokenError, match=r"identify\.token_malformed"):
        parse(text)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ('{"alg":"ES256","alg":"none"}', "malformed"),
        ('{"alg":"ES256","x":NaN}', "malformed"),
        ('["ES256"]', "malformed"),
        ("[" * 5000, "malformed"),
        ('{"alg":"ES256","crit":["exp"]}', "critical"),
        ('{"alg":"ES256","crit":["b64"],"b64":false}', "critical"),
        ('{"alg":"ES256","zip":"DEF"}', "critical"),
        ('{"typ":"JWT"}', "header"),
        ('{"alg":["ES256"]}', "header"),
        ('{"alg":"ES256","kid":7}', "header"),
        ('{"alg":"ES256","typ":null}', "header"),
        (json.dumps({"alg": "ES256", "kid": "k" * 257}), "key_id"),
    ],
)
def test_headers_that_are_refused(head: str, reason: str) -> None:
    with pytest.raises(TokenError) as raised:
        parse(f"{encode(head.encode())}.{encode(b'{}')}.{encode(b'x')}")
    assert raised.value.reason == f"identify.token_{reason}"


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b'"text"', b'{"sub":"a","sub":"b"}', b"{} {}"])
def test_claims_are_one_object_each_of_whose_names_stands_once(payload: bytes) -> None:
    assert not accepted(token(payload or b" "), ALL)


@settings(max_examples=300)
@given(st.text(alphabet="AQgwEtls5-_.", max_size=60))
def test_no_text_does_anything_but_raise(text: str) -> None:
    assert not accepted(text, ALL)
