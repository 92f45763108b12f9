"""Sets of keys: what each key is good for, and what is passed over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sidecar.identity.jwks import EDWARDS, LARGEST, MOST_KEYS, RSA, KeySetError, read
from tests.identity.issuing import encode, jwk, jwks, number


def test_a_key_is_for_its_own_algorithms_alone() -> None:
    found = {
        key.key_id: key.algorithms
        for key in read(jwks(*(jwk(name, name) for name in ("RS256", "ES384", "EdDSA")))).keys
    }
    assert found == {"RS256": RSA, "ES384": {"ES384"}, "EdDSA": EDWARDS}


def test_what_a_key_or_the_config_pins_is_kept_to() -> None:
    assert read(jwks(jwk("RS256", alg="PS256"))).keys[0].algorithms == {"PS256"}
    assert read(jwks(jwk("EdDSA", alg="Ed25519"))).keys[0].algorithms == EDWARDS
    assert read(jwks(jwk("RS256")), ("RS256", "ES256")).keys[0].algorithms == {"RS256"}


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": "verify"}, {"alg": "HS256"}, {"alg": "none"}, {"alg": 7},
        {"alg": "ES384"}, {"kid": 7}, {"kty": "oct", "k": "AAAA"}, {"kty": "AKP"}, {"kty": []}, {"crv": "secp256k1"},
        {"x": "AAAA"}, {"x": 7}, {"x": None},
    ],
)  # fmt: skip
def test_a_key_that_cannot_verify_is_passed_over(changed: dict[str, Any]) -> None:
    found = read(jwks({**jwk("ES256", "bad"), **changed}, jwk("RS256", "good")))
    assert ([key.key_id for key in found.keys], found.passed_over) == (["good"], 1)


def test_a_point_off_its_curve_is_no_key() -> None:
    key = jwk("ES256")
    with pytest.raises(KeySetError):
        read(jwks({**key, "y": key["x"]}))


@pytest.mark.parametrize("bits", [1024, 1536])
def test_an_rsa_key_that_is_too_short_is_none(bits: int) -> None:
    numbers = rsa.generate_private_key(65537, bits).public_key().public_numbers()
    with pytest.raises(KeySetError):
        read(jwks({"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}))


def test_of_a_private_key_the_public_half_is_kept() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_numbers()
    given = {"kty": "EC", "crv": "P-256", "x": number(point.x, 32), "y": number(point.y, 32)}
    secret = number(private.private_numbers().private_value, 32)
    (key,) = read(jwks({**given, "d": secret})).keys
    assert not key.key.is_private
    assert secret not in repr(key.key.as_dict())


def test_keys_are_found_by_their_id_and_all_of_a_kind_without_one() -> None:
    found = read(jwks(jwk("ES256", "a"), jwk("ES256", "b", which=1), jwk("ES256", "a", which=2), jwk("RS256", "a")))
    assert len(found.find("a", "ES256")) == 2
    assert len(found.find("", "ES256")) == 3
    assert found.find("c", "ES256") == ()
    assert found.find("a", "HS256") == ()


@pytest.mark.parametrize("octets", [
    b"", b"{}", b"[]", b"null", b'{"keys":{}}', b'{"keys":[]}', b"\xff", b"[" * 100_000, b'{"keys":[null,7,"x",[]]}',
    b'{"keys":[' + b",".join([b"{}"] * (MOST_KEYS + 1)) + b"]}", b" " * (LARGEST + 1),
])  # fmt: skip
def test_what_is_no_set_is_refused(octets: bytes) -> None:
    with pytest.raises(KeySetError):
        read(octets)


def test_a_thumbprint_is_rfc_7638s() -> None:
    """Its own example, section 3.1."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3ok"
        "njhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu"
        "6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8a"
        "wapJzKnqDKgw"
    )
    given = {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    (key,) = read(json.dumps({"keys": [given]}).encode()).keys
    assert key.thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert encode(b"\0") == "AA"
