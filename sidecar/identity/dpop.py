"""Proofs of possession (DPoP, RFC 9449): who presents a token that is bound to a key has that key, for this very call.

A proof is read before its token is looked at and verified after: only who has a good token that names the proof's key
makes us work for it. That each is used once is the link's to see to, by the ledger; nothing here is remembered of one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Mapping
from hashlib import sha256
from math import ceil
from typing import Any, Final, NamedTuple

from interceptors.bounded import Bounded
from interceptors.ledger import Bucket
from interceptors.tokens import Proof
from sidecar.identity import jwks, jws
from sidecar.identity.dpop_nonces import Nonces
from sidecar.identity.jwks import VerificationKey
from sidecar.identity.jws import Token, TokenError

TYPE: Final = "dpop+jwt"
METHOD: Final = "POST"  # of every call of gRPC
LONGEST_ID: Final = 256  # characters of a `jti`
SLOTS: Final = 1 << 20  # of the ledger of used proofs; 24 MiB
# A set of 64 slots that holds 24 on average has no room for one more once in 10^11.
USABLE: Final = 3 / 8
MOST_KEYS: Final = 4096  # that are remembered
# RFC 7638 3.2 and RFC 8037 2: what of a key its thumbprint is made of.
MEMBERS: Final = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
PRIVATE: Final = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))  # RFC 7518 6.2.2, 6.3.2, 6.4
URI: Final = re.compile(r"(https?)://([^/?#@\\\s]+)(/[^?#]*)?(?:\?[^#]*)?(?:#.*)?", re.IGNORECASE)
PORTS: Final = {"http": ":80", "https": ":443"}
UNRESERVED: Final = re.compile(r"%(2D|2E|3[0-9]|4[1-9A-F]|5[0-9A]|5F|6[1-9A-F]|7[0-9A]|7E)", re.IGNORECASE)


class Read(NamedTuple):
    """A proof taken apart and found to be about this call; that its key signed it is not proven yet.

    thumbprint: of its key (RFC 7638), SHA-256 in base64url.  next_nonce: for the proof after this, "" for the same.
    """

    token: Token
    key: Mapping[str, Any]
    thumbprint: str
    proof_id: str
    next_nonce: str


class Proofs:
    """origins: under which callers reach us, "https://host" or "https://host:port".  algorithms: of jwks.ALGORITHMS.

    window_s: how far a proof's time may be from ours.  kept_s: whole seconds for which one that was used is remembered.
    nonces: that proofs have to carry; None where it is their own time that counts.
    """

    def __init__(
        self, origins: Collection[str], algorithms: Collection[str], window_s: float, nonces: Nonces | None = None
    ) -> None:
        # Twice, for a proof may be as much ahead of our clock as behind; and a second, for it is looked at before.
        self.kept_s = ceil(2 * window_s) + 1
        self._window_s = window_s
        self._nonces = nonces
        self._origins = frozenset(normal(f"{origin}/") for origin in origins)
        self._algorithms = frozenset(algorithms)
        self._keys: Bounded[str, VerificationKey] = Bounded(MOST_KEYS)

    def read(self, proof: Proof, text: str, now: float) -> Read:
        """RFC 9449 4.3, but for its steps 6 and 12's second half. text: the access token.  now: Unix seconds.

        Raises TokenError, and NonceError where nothing else is wrong with it.
        """
        if len(proof.given) != 1:
            raise TokenError("identify.token_proof_several" if proof.given else "identify.token_proof_missing")
        try:
            token, header = jws.with_header(proof.given[0].decode("latin-1"))
        except TokenError:
            raise TokenError("identify.token_proof_malformed") from None
        if token.type.lower().removeprefix("application/") != TYPE:
            raise TokenError("identify.token_proof_type")
        if token.algorithm not in self._algorithms:
            raise TokenError("identify.token_proof_algorithm")
        key = header.get("jwk")
        if not isinstance(key, dict) or not PRIVATE.isdisjoint(key):
            raise TokenError("identify.token_proof_key")
        claims = token.claims
        if claims.get("htm") != METHOD:
            raise TokenError("identify.token_proof_method")
        self._about(claims.get("htu"), proof.path)
        if not proof.again:
            self._fresh(claims.get("iat"), now)
        if claims.get("ath") != _encoded(sha256(text.encode("utf-8", "surrogatepass")).digest()):
            raise TokenError("identify.token_proof_token")
        proof_id = claims.get("jti")
        if not isinstance(proof_id, str) or not 0 < len(proof_id) <= LONGEST_ID:
            raise TokenError("identify.token_proof_id")
        following = "" if self._nonces is None or proof.again else self._nonces.check(claims.get("nonce"), now)
        return Read(token, key, thumbprint(key), proof_id, following)

    def verify(self, read: Read) -> None:
        """RFC 9449 4.3, step 6. Raises TokenError."""
        key = self._keys.get(read.thumbprint)
        if key is None:
            key = jwks.verification_key(read.key, self._algorithms)
            # Whatever spelling of a key the library takes for the same: the token is bound to one spelling.
            if key is None or key.thumbprint != read.thumbprint:
                raise TokenError("identify.token_proof_key")
            self._keys.keep(read.thumbprint, key)
        try:
            jws.verify(read.token, key)
        except TokenError:
            raise TokenError("identify.token_proof_signature") from None

    def _about(self, said: object, path: str) -> None:
        """The URI is one of ours. What a call says of its own authority counts for nothing: its sender chose it."""
        uri = normal(said) if isinstance(said, str) else ""
        if not uri.endswith(path) or f"{uri.removesuffix(path)}/" not in self._origins:
            raise TokenError("identify.token_proof_uri")

    def _fresh(self, issued: object, now: float) -> None:
        if isinstance(issued, bool) or not isinstance(issued, (int, float)):
            raise TokenError("identify.token_proof_time")
        if self._nonces is not None:
            return  # 4.3, step 11: made in the time of its nonce, whatever the client's clock says
        if not now - self._window_s <= issued <= now + self._window_s:
            raise TokenError("identify.token_proof_time")


def share(tenants: int, kept_s: int, slots: int = SLOTS) -> Bucket | None:
    """How many proofs each of so many tenants may use; None for one alone, whom nobody else can be shut out by.

    In any `kept_s` seconds a bucket allows what it holds and what it refills. INVARIANT: all tenants' together are
    within USABLE of the slots (four for each where that is more): whoever uses up his share leaves the others theirs.
    """
    if tenants < 2:
        return None
    each = max(4, int(slots * USABLE) // tenants)
    return Bucket(each - each // 4, kept_s, each // 4)


def normal(uri: str) -> str:
    """A URI without query and fragment, in the spelling in which they compare (RFC 3986 6.2.2, 6.2.3); "" for none.

    Segments such as ".." stay as they are: no path of gRPC has them.
    """
    found = URI.fullmatch(uri)
    if found is None:
        return ""
    scheme = found[1].lower()
    authority = found[2].lower().removesuffix(PORTS[scheme])
    path = UNRESERVED.sub(lambda escaped: chr(int(escaped[1], 16)), found[3] or "/")
    return f"{scheme}://{authority}{path}"


def thumbprint(key: Mapping[str, Any]) -> str:
    """RFC 7638, by SHA-256. Raises TokenError for a key of a kind that proves nothing here."""
    members = MEMBERS.get(key["kty"]) if isinstance(key.get("kty"), str) else None
    if members is None or not all(isinstance(key.get(name), str) for name in members):
        raise TokenError("identify.token_proof_key")
    spelt = json.dumps({name: key[name] for name in members}, separators=(",", ":"), ensure_ascii=False)
    return _encoded(sha256(spelt.encode("utf-8", "surrogatepass")).digest())


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
