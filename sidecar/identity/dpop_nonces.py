"""Nonces that proofs of possession have to carry (RFC 9449 8 and 9), so that none can be made before its time.

They are made from the time and a key that all workers have, and kept nowhere: a nonce is good in the span in which it
is given out, and in the one after.
"""

from __future__ import annotations

import base64
import hmac
from typing import Final

from interceptors.contract import Deny
from sidecar.identity.jws import TokenError

OCTETS: Final = 16
LEAST_KEY: Final = 32  # bytes
CHALLENGE: Final = (b"www-authenticate", b'DPoP error="use_dpop_nonce"')  # RFC 9449 9


class NonceError(TokenError):
    """A proof without a nonce that is good now. nonce: one that is."""

    public = "a proof needs the nonce that dpop-nonce has"

    def __init__(self, nonce: str) -> None:
        super().__init__("identify.token_proof_nonce")
        self.nonce = nonce

    @property
    def refusal(self) -> Deny:
        return Deny(self.code, self.reason, self.public, trailers=((b"dpop-nonce", self.nonce.encode()), CHALLENGE))


class Nonces:
    """key: of this boot, the same in every worker.  span_s: of one."""

    def __init__(self, key: bytes, span_s: float) -> None:
        if len(key) < LEAST_KEY:
            raise ValueError(f"the key of nonces has {len(key)} bytes, expected {LEAST_KEY} or more")
        self._key = key
        self._span_s = span_s
        self._known: dict[int, str] = {}

    def check(self, said: object, now: float) -> str:
        """The next one to use, "" while the one that came is the last. now: Unix seconds. Raises NonceError."""
        span = int(now // self._span_s)
        current = self._of(span)
        came = said.encode("utf-8", "surrogatepass") if isinstance(said, str) else b""
        if hmac.compare_digest(came, current.encode()):
            return ""
        if hmac.compare_digest(came, self._of(span - 1).encode()):
            return current
        raise NonceError(current)

    def _of(self, span: int) -> str:
        found = self._known.get(span)
        if found is None:
            octets = hmac.digest(self._key, span.to_bytes(8, "big", signed=True), "sha256")[:OCTETS]
            found = base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
            self._known = {at: text for at, text in self._known.items() if abs(at - span) < 2}
            self._known[span] = found
        return found
