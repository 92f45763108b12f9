"""The `interceptors.tokens.Tokens` of a process: whoever presents a token of an issuer that the config names."""

from __future__ import annotations

from interceptors.contract import Deny
from interceptors.facts import Credential, Principal
from interceptors.tokens import Finding, KeysWanted, Proven
from sidecar.identity.jws import TokenError
from sidecar.identity.model import Identified
from sidecar.identity.tokens import Tokens, UnknownKeyError


class Credentials:
    """Used on the event loop's thread."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def identify(self, text: str, fingerprint: str, now: float) -> Finding:
        """As the port's."""
        try:
            who = self._tokens.identify(text, bytes.fromhex(fingerprint), "", now)
        except UnknownKeyError as error:
            return KeysWanted(error.issuer, _refusal(error))
        except TokenError as error:
            return _refusal(error)
        return _proven(who)


def _proven(who: Identified) -> Proven:
    """Names of callers begin with their issuer's title, so that no issuer can name another's."""
    principal = Principal("user", f"user:{who.issuer}/{who.subject}", who.tenant, who.roles, who.attributes)
    return Proven(principal, Credential("token", who.issued, who.expires))


def _refusal(error: TokenError) -> Deny:
    return Deny(error.code, error.reason, error.public)
