"""An issuer in memory: keys of every kind, and tokens signed by cryptography itself, for ours is what is tested."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Private: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey
HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES: Final = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
NOW: Final = 1_800_000_000.0
ISSUER: Final = "https://login.example.org/realms/ml"
AUDIENCE: Final = "sidecar"


def encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def number(value: int, size: int = 0) -> str:
    return encode(value.to_bytes(size or (value.bit_length() + 7) // 8))


@cache
def private(algorithm: str, which: int = 0) -> Private:
    """One for each algorithm and number, made once."""
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm])
    if algorithm in ("EdDSA", "Ed25519"):
        return Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


def jwk(algorithm: str, key_id: str = "k1", which: int = 0, **more: Any) -> dict[str, Any]:
    """The public key as an issuer publishes it. more: members to add."""
    key = private(algorithm, which)
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        found = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        point, size = key.public_key().public_numbers(), (key.curve.key_size + 7) // 8
        name = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
        found = {"kty": "EC", "crv": name, "x": number(point.x, size), "y": number(point.y, size)}
    else:
        found = {"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().public_bytes_raw())}
    return {**found, "kid": key_id, "use": "sig", **more}


def jwks(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def sign(algorithm: str, signed: bytes, which: int = 0) -> bytes:
    key = private(algorithm, which)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(HASHES[algorithm[2:]])))
        size = (key.curve.key_size + 7) // 8
        return r.to_bytes(size) + s.to_bytes(size)
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(signed)
    digest = HASHES[algorithm[2:]]
    if algorithm.startswith("PS"):
        return key.sign(signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    return key.sign(signed, padding.PKCS1v15(), digest)


def claims(**changed: Any) -> dict[str, Any]:
    """Good ones, changed; a claim that is None is left out."""
    good = {"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": NOW + 300, "iat": NOW - 1, **changed}
    return {name: value for name, value in good.items() if value is not None}


def token(
    said: object,
    algorithm: str = "ES256",
    *,
    header: Mapping[str, Any] | None = None,
    which: int = 0,
    key_id: str = "k1",
    without: Collection[str] = (),
) -> str:
    """said: the payload; bytes are taken as they are.  header: in place of or beside the usual one's members.

    without: members of the header that are left out.
    """
    head = {"alg": algorithm, "typ": "JWT", "kid": key_id, **(header or {})}
    head = {name: value for name, value in head.items() if name not in without}
    payload = said if isinstance(said, bytes) else json.dumps(said).encode()
    text = f"{encode(json.dumps(head).encode())}.{encode(payload)}"
    return f"{text}.{encode(sign(algorithm, text.encode(), which))}"
