"""Proofs of possession, made by joserfc as a client would make them: RFC 9449 4.2."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

ORIGIN = "https://models.example.org:8443"
PATH = "/e2e.Echo/Unary"


def key(which: int = 0, kind: str = "EC") -> Any:
    """One for each number and kind, made once."""
    return _made(which, kind)


@cache
def _made(which: int, kind: str) -> ECKey | OKPKey | RSAKey:
    if kind == "RSA":
        return RSAKey.generate_key(2048)
    return OKPKey.generate_key("Ed25519") if kind == "OKP" else ECKey.generate_key("P-256")


def ath(token: str) -> str:
    """4.2: of the access token's ASCII, SHA-256 in base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def proof(
    token: str,
    now: float,
    holder: ECKey | OKPKey | RSAKey | None = None,
    header: dict[str, Any] | None = None,
    signer: Any = None,
    **changed: Any,
) -> str:
    """A good one, changed; what is None is left out. signer: who signs in the holder's place."""
    held = holder or key()
    algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519"}[held.key_type]
    said = {"typ": "dpop+jwt", "alg": algorithm, "jwk": held.as_dict(private=False), **(header or {})}
    claims = {"jti": "p1", "htm": "POST", "htu": ORIGIN + PATH, "iat": int(now), "ath": ath(token), **changed}
    fields = {name: value for name, value in said.items() if value is not None}
    body = json.dumps({name: value for name, value in claims.items() if value is not None})
    registry = jws.JWSRegistry(algorithms=[*jws.JWSRegistry.algorithms], strict_check_header=False)
    return jws.serialize_compact(fields, body, signer or held, registry=registry)


def relabelled(proof_: str, **changed: Any) -> str:
    """Another header over the rest of a proof, one that no library writes; its signature is of the header before."""
    head, _, rest = proof_.partition(".")
    said = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))) | changed
    return f"{base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b'=').decode()}.{rest}"
