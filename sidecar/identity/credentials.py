"""The `interceptors.tokens.Tokens` of a process: tokens of issuers that the config names, and API keys of ours."""

from __future__ import annotations

from typing import Final

from interceptors.contract import Code, Deny
from interceptors.facts import Credential, KeyGrant, Principal
from interceptors.limit import OwnBudget
from interceptors.tokens import Finding, KeysWanted, Proven
from sidecar.identity.api_keys import PREFIX, ApiKeyError
from sidecar.identity.jws import TokenError
from sidecar.identity.keys_known import KeysKnown
from sidecar.identity.keys_model import KeyRecord, bucket, holder
from sidecar.identity.model import Identified
from sidecar.identity.tokens import Tokens, UnknownKeyError

BUDGET: Final = "api-key"  # the reason of refusals beyond a key's own rate is "limit.api-key"
NO_TOKENS: Final = Deny(Code.UNAUTHENTICATED, "identify.token_issuer", TokenError.public)
NO_KEYS: Final = Deny(Code.UNAUTHENTICATED, "identify.key_unknown", ApiKeyError.public)


class Credentials:
    """Used on the event loop's thread. tokens, keys: None where none are taken.  max_staleness_s: of keys."""

    def __init__(self, tokens: Tokens | None, keys: KeysKnown | None, max_staleness_s: float) -> None:
        self._tokens = tokens
        self._keys = keys
        self._max_staleness_s = max_staleness_s

    def identify(self, text: str, fingerprint: str, now: float) -> Finding:
        """As the port's."""
        if text.startswith(PREFIX):
            return self._by_key(text, now)
        if self._tokens is None:
            return NO_TOKENS
        try:
            who = self._tokens.identify(text, bytes.fromhex(fingerprint), "", now)
        except UnknownKeyError as unknown:
            return KeysWanted(unknown.issuer, _refusal(unknown))
        except TokenError as error:
            return _refusal(error)
        return _proven(who)

    def _by_key(self, text: str, now: float) -> Finding:
        if self._keys is None:
            return NO_KEYS
        try:
            return _holder(self._keys.identify(text, now, self._max_staleness_s))
        except ApiKeyError as error:
            return _refusal(error)


def _proven(who: Identified) -> Proven:
    principal = Principal("user", who.principal, who.tenant, who.roles, who.attributes)
    return Proven(principal, Credential("token", who.issued, who.expires))


def _holder(record: KeyRecord) -> Proven:
    principal = Principal("key", holder(record), record.tenant)
    home = f"tenants/{record.tenant}/"
    resources = tuple([resource.removeprefix(home) for resource in record.resources])
    also: tuple[object, ...] = (KeyGrant(record.permissions, resources),)
    if record.rate:
        also = (*also, OwnBudget.of(BUDGET, bucket(record.rate), record.tenant, record.line))
    return Proven(principal, Credential("api_key", record.created, record.ends), also)


def _refusal(error: TokenError | ApiKeyError) -> Deny:
    return Deny(error.code, error.reason, error.public)
