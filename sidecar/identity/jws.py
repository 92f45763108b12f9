"""A signed token in its compact form (JWS, RFC 7515) taken apart, and its signature verified; claims are `claims`'.

What a token's header says about where its key is (`jku`, `x5u`, `jwk`, `x5c`) is never read here. Every part has
exactly one spelling, so that no two tokens say the same, if not for their signatures: a cache may go by a digest.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple, NoReturn

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from interceptors.contract import Code
from sidecar.errors import SidecarError
from sidecar.identity.jwks import VerificationKey

LONGEST: Final = 16 << 10  # characters of a token
LONGEST_KEY_ID: Final = 256  # characters
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class TokenError(SidecarError):
    """A token that proves nothing. reason: stable, for the record; the caller learns no more than `public`."""

    code = Code.UNAUTHENTICATED
    public = "token is not valid"
    wire_reason = "TOKEN_INVALID"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Token(NamedTuple):
    """A token taken apart; nothing of it is proven yet. signed: what the signature is of.  claims: a JSON object."""

    algorithm: str
    key_id: str
    type: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of what is signed. Of the whole there may be two: ECDSA has two signatures where it has one."""
        return sha256(self.signed).digest()


def parse(text: str) -> Token:
    """Raises TokenError for what is no token of the one form that is taken."""
    return with_header(text)[0]


def with_header(text: str) -> tuple[Token, dict[str, Any]]:
    """As `parse`, and all that the header says: for whom a key in it is no instruction, but a claim to be proven."""
    found = _COMPACT.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        raise TokenError("identify.token_malformed")
    header = _object(_octets(found[1]))
    if "crit" in header or "zip" in header:  # RFC 7515 4.1.11: extensions that we do not know must not be ignored
        raise TokenError("identify.token_critical")
    algorithm, key_id, kind = header.get("alg"), header.get("kid", ""), header.get("typ", "")
    if not (isinstance(algorithm, str) and isinstance(key_id, str) and isinstance(kind, str)):
        raise TokenError("identify.token_header")
    if len(key_id) > LONGEST_KEY_ID:
        raise TokenError("identify.token_key_id")
    signed, _, _ = text.rpartition(".")
    claims = _object(_octets(found[2]))
    return Token(algorithm, key_id, kind, claims, signed.encode("ascii"), _octets(found[3])), header


def verify(token: Token, key: VerificationKey) -> None:
    """Raises TokenError unless `key` made the signature, by the algorithm that the token names and the key is for."""
    if token.algorithm not in key.algorithms:
        raise TokenError("identify.token_algorithm")
    try:
        sound = JWSRegistry.algorithms[token.algorithm].verify(token.signed, token.signature, key.key)
    except (JoseError, ValueError):
        sound = False
    if not sound:
        raise TokenError("identify.token_signature")


def _octets(text: str) -> bytes:
    """RFC 7515 2: base64url without padding, and of its spellings only the one that an encoder gives."""
    try:
        octets = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except binascii.Error:
        raise TokenError("identify.token_malformed") from None
    if base64.urlsafe_b64encode(octets).rstrip(b"=") != text.encode("ascii"):
        raise TokenError("identify.token_malformed")
    return octets


def _object(octets: bytes) -> dict[str, Any]:
    """A JSON object each of whose names stands once (RFC 7515 4, RFC 7519 4), in UTF-8."""
    try:
        value = json.loads(octets.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise TokenError("identify.token_malformed") from None
    if not isinstance(value, dict):
        raise TokenError("identify.token_malformed")
    return value


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
