"""An issuer of tokens for one run: a key of its own, in a file as a JWK set, and the tokens that it signs."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

NAME: Final = "bench"
ISSUER: Final = "https://login.example.org/bench"
AUDIENCE: Final = "sidecar"
CALLERS: Final = f"user:{NAME}/"  # how its callers' names begin
LIFE_S: Final = 86400


class Issuer:
    """RS256, 2,048 bits: what identity providers sign with unless they are told otherwise. jwks: its public key."""

    def __init__(self, folder: Path) -> None:
        self.jwks = folder / "jwks.json"
        self._key = rsa.generate_private_key(65537, 2048)
        public = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "n": _number(public.n), "e": _number(public.e)}
        self.jwks.write_text(json.dumps({"keys": [key]}))

    def token(self, subject: str, key_id: str = "1", **claims: Any) -> str:
        now = int(time.time())
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + LIFE_S, **claims}
        head = {"alg": "RS256", "kid": key_id, "typ": "at+jwt"}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, said))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encoded(signature)}"


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8))
