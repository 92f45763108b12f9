"""A set of keys (JWKS, RFC 7517) → what verifies an issuer's tokens. Where sets come from is not known here.

Each key says by itself, before any token is seen, for which algorithms it is good: a token chooses among its issuer's
keys and never what is done with them. Keys that cannot verify, or are of an unknown form, are passed over (RFC 7517 5).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from sidecar.errors import SidecarError

RSA: Final = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}  # RFC 7518 3.4: each has its one algorithm
EDWARDS: Final = frozenset(("EdDSA", "Ed25519"))  # two names of one (RFC 9864 2.2)
ALGORITHMS: Final = RSA | frozenset(CURVES.values()) | EDWARDS
LEAST_RSA: Final = 2048  # bits, RFC 7518 3.3
MOST_RSA: Final = 8192  # bits: what a signature costs grows with them
MOST_KEYS: Final = 256  # of a set
LARGEST: Final = 1 << 20  # bytes of a set
KINDS: Final = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


class KeySetError(SidecarError):
    """What was given as a set of keys is none."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """algorithms: those that a token may name with this key.  thumbprint: RFC 7638, SHA-256, base64url."""

    key_id: str
    algorithms: frozenset[str]
    thumbprint: str
    key: RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class KeySet:
    """keys: in the set's order.  passed_over: how many the set has beside them.  thumbprints: of all keys."""

    keys: tuple[VerificationKey, ...]
    passed_over: int = 0
    thumbprints: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "thumbprints", frozenset(key.thumbprint for key in self.keys))

    def find(self, key_id: str, algorithm: str) -> tuple[VerificationKey, ...]:
        """The keys that may have signed a token. key_id: "" where the token names none: then all of its kind."""
        return tuple(key for key in self.keys if algorithm in key.algorithms and (not key_id or key.key_id == key_id))


def read(octets: bytes, allowed: Collection[str] = ALGORITHMS) -> KeySet:
    """allowed: of ALGORITHMS. Raises KeySetError for what is no set, and for one without a key that is good for one."""
    if len(octets) > LARGEST:
        raise KeySetError(f"{len(octets)} bytes, expected at most {LARGEST}")
    try:
        found = json.loads(octets)
        listed = found["keys"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise KeySetError('expected a JSON object with "keys"') from None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise KeySetError(f'expected "keys" to be a list of at most {MOST_KEYS}')
    keys = tuple(key for each in listed if (key := verification_key(each, frozenset(allowed))) is not None)
    if not keys:
        raise KeySetError(f"none of {len(listed)} keys verifies by any of {', '.join(sorted(allowed))}")
    return KeySet(keys, len(listed) - len(keys))


def verification_key(given: object, allowed: frozenset[str]) -> VerificationKey | None:
    """Of one key of a set; None where it is good for none of the algorithms `allowed`."""
    if not isinstance(given, Mapping):
        return None
    kind, key_id = given.get("kty"), given.get("kid", "")
    operations = given.get("key_ops", ["verify"])
    usable = given.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    if not (usable and isinstance(key_id, str) and isinstance(kind, str) and kind in KINDS):
        return None
    try:
        if kind == "RSA" and not LEAST_RSA <= _bits(given["n"]) <= MOST_RSA:
            return None
        key = import_key(_public(given))
        good = _algorithms(key) & allowed
        thumbprint = key.thumbprint()
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if (named := given.get("alg")) is not None:
        good &= EDWARDS if named in EDWARDS else frozenset((named,) if isinstance(named, str) else ())
    if not good or not isinstance(key, (RSAKey, ECKey, OKPKey)):
        return None
    return VerificationKey(key_id, good, thumbprint, key)


def _public(given: Mapping[str, Any]) -> dict[str, Any]:
    """The public half: who publishes a private key by mistake has it neither used nor kept."""
    return {name: given[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in given}


def _bits(modulus: str) -> int:
    """Looked at before the number is used. Raises ValueError, TypeError for what is no base64url."""
    return int.from_bytes(base64.urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4))).bit_length()


def _algorithms(key: object) -> frozenset[str]:
    if isinstance(key, RSAKey):
        return RSA
    if isinstance(key, ECKey):
        return frozenset((CURVES[key.curve_name],)) if key.curve_name in CURVES else frozenset()
    if isinstance(key, OKPKey):
        return EDWARDS if key.curve_name == "Ed25519" else frozenset()
    return frozenset()
