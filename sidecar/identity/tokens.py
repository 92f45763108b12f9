"""Tokens of the issuers that the config names: each verified once, then known by its digest and looked at again.

Where keys come from and how they are fetched is not known here, nor what a caller may do.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from interceptors.bounded import Bounded
from interceptors.contract import Code
from sidecar.identity.claims import identify
from sidecar.identity.jwks import KeySet
from sidecar.identity.jws import TokenError, parse, verify
from sidecar.identity.model import Binding, Identified, Issuer

MOST_KNOWN: Final = 8192  # tokens
MOST_TRIED: Final = 4  # keys that may have signed a token which does not say: each costs a verification


class Keys(Protocol):
    def of(self, issuer: str, now: float) -> KeySet:
        """The keys of an issuer, by its title, that are in force; none where there are none yet.

        Raises StaleKeysError.
        """


class StaleKeysError(TokenError):
    """An issuer's keys may have changed since they were last known: nothing can be told of its tokens."""

    code = Code.UNAVAILABLE
    public = "client identity cannot be verified now"

    def __init__(self) -> None:
        super().__init__("identify.token_keys_stale")


class UnknownKeyError(TokenError):
    """A token names a key that its issuer's set, as it is known here, does not have. issuer: its title."""

    def __init__(self, issuer: str) -> None:
        super().__init__("identify.token_key")
        self.issuer = issuer


class _Known(NamedTuple):
    """A token that was good. key: thumbprint of the one that signed it.  digest: of what it signed."""

    who: Identified
    key: str
    digest: bytes


class Tokens:
    """Used on one thread. revoked: whether a token is taken back, by whom it is of and the digest of what is signed.

    It may raise TokenError.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        keys: Keys,
        revoked: Callable[[Identified, bytes], bool],
        most_known: int = MOST_KNOWN,
    ) -> None:
        self._issuers = {issuer.url: issuer for issuer in issuers}
        self._keys = keys
        self._revoked = revoked
        self._known: Bounded[bytes, _Known] = Bounded(most_known)

    def identify(self, text: str, certificate: bytes, proven_key: str, now: float) -> Identified:
        """Who presents the token. Raises TokenError, UnknownKeyError, StaleKeysError.

        certificate: SHA-256 of the one that this connection's caller has proven to hold, b"" for none.
        proven_key: thumbprint of the key that this call's proof of possession was made with, "" for none.
        now: Unix seconds.
        """
        digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if known is None:
            known = self._verify(text, now)
            self._known.keep(digest, known)
        who = known.who
        # INVARIANT: nothing below is remembered. Time, keys, revocations and who presents it change under a token.
        if now >= who.expires:
            raise TokenError("identify.token_expired")
        thumbprints = self._keys.of(who.issuer, now).thumbprints
        if not thumbprints:
            raise UnknownKeyError(who.issuer)  # whoever fetches them has begun anew, and has not fetched them yet
        if known.key not in thumbprints:
            raise TokenError("identify.token_key_withdrawn")
        if self._revoked(who, known.digest):
            raise TokenError("identify.token_revoked")
        if who.binding is not None:
            _check(who.binding, certificate, proven_key)
        return who

    def _verify(self, text: str, now: float) -> _Known:
        token = parse(text)
        named = token.claims.get("iss")
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise TokenError("identify.token_issuer")
        if token.algorithm not in issuer.algorithms:
            raise TokenError("identify.token_algorithm")
        keys = self._keys.of(issuer.title, now).find(token.key_id, token.algorithm)
        if not keys:
            raise UnknownKeyError(issuer.title)
        if len(keys) > MOST_TRIED:
            raise TokenError("identify.token_key_ambiguous")
        for key in keys:
            try:
                verify(token, key)
            except TokenError:
                continue
            # Only now does what it says count.
            return _Known(identify(token, issuer, now), key.thumbprint, token.digest)
        raise TokenError("identify.token_signature")


def _check(binding: Binding, certificate: bytes, proven_key: str) -> None:
    """RFC 8705 3, RFC 9449 6: whoever presents a bound token holds what it is bound to."""
    if binding.kind == "x5t#S256":
        held = base64.urlsafe_b64encode(certificate).rstrip(b"=").decode() if certificate else ""
    else:
        held = proven_key
    if not held or held != binding.thumbprint:
        raise TokenError("identify.token_not_bound_to_caller")
