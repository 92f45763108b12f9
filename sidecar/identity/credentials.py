"""The `interceptors.tokens.Tokens` of a process: tokens of issuers that the config names, and API keys of ours."""

from __future__ import annotations

from typing import Final

from interceptors.bounded import Bounded
from interceptors.contract import Code, Deny
from interceptors.facts import Credential, KeyGrant, Principal
from interceptors.ledger import Bucket, Charge
from interceptors.limit import OwnBudget
from interceptors.nonces import NextNonce
from interceptors.tokens import Finding, KeysWanted, Once, Proof, Proven
from sidecar.identity.api_keys import PREFIX, ApiKeyError
from sidecar.identity.dpop import Proofs
from sidecar.identity.dpop_nonces import NonceError
from sidecar.identity.jws import TokenError
from sidecar.identity.keys_known import KeysKnown
from sidecar.identity.keys_model import KeyRecord, bucket, holder
from sidecar.identity.model import KEY_BINDING, Identified
from sidecar.identity.tokens import MOST_KNOWN, Tokens, UnknownKeyError

SHARE: Final = "tenant\n\n"  # how the names of shares begin: no thumbprint has a line break
BUDGET: Final = "api-key"  # the reason of refusals beyond a key's own rate is "limit.api-key"
NO_TOKENS: Final = Deny(Code.UNAUTHENTICATED, "identify.token_issuer", TokenError.public)
NO_KEYS: Final = Deny(Code.UNAUTHENTICATED, "identify.key_unknown", ApiKeyError.public)


class Credentials:
    """Used on the event loop's thread. tokens, keys: None where none are taken.  max_staleness_s: of keys.

    proofs: how those of tokens that are bound to a key are read; None where such tokens are not taken.
    share: of their ledger, each tenant's; None where there is one tenant alone.
    """

    def __init__(
        self,
        tokens: Tokens | None,
        keys: KeysKnown | None,
        max_staleness_s: float,
        proofs: Proofs | None = None,
        share: Bucket | None = None,
    ) -> None:
        self.proofs = tokens is not None and proofs is not None
        self._proofs = proofs
        self._share = share
        self._tokens = tokens
        self._keys = keys
        self._max_staleness_s = max_staleness_s
        # By id of whom it is of: what is decided of a caller is remembered for as long as he is the same object.
        self._proven: Bounded[int, tuple[Identified, Proven]] = Bounded(MOST_KNOWN)

    def identify(self, text: str, fingerprint: str, now: float, proof: Proof | None = None) -> Finding:
        """As the port's."""
        if text.startswith(PREFIX) and proof is None:
            return self._by_key(text, now)
        if self._tokens is None:
            return NO_TOKENS
        try:
            if proof is not None and self._proofs is not None:
                return self._by_proof(self._tokens, self._proofs, proof, text, fingerprint, now)
            who = self._tokens.identify(text, bytes.fromhex(fingerprint), "", now)
        except UnknownKeyError as unknown:
            return KeysWanted(unknown.issuer, _refusal(unknown))
        except NonceError as wanted:
            return wanted.refusal
        except TokenError as error:
            return _refusal(error)
        return self._prove(who)

    def _by_proof(
        self, tokens: Tokens, proofs: Proofs, proof: Proof, text: str, fingerprint: str, now: float
    ) -> Finding:
        """Raises TokenError."""
        read = proofs.read(proof, text, now)
        who = tokens.identify(text, bytes.fromhex(fingerprint), read.thumbprint, now)
        if who.binding is None or who.binding.kind != KEY_BINDING:
            raise TokenError("identify.token_unbound")  # RFC 9449 7.1: a proof that nothing asks for proves nothing
        proofs.verify(read)
        if proof.again:
            return self._prove(who)
        used = Bucket(1, proofs.kept_s, 1)
        charge = Charge(f"{read.thumbprint}\n{read.proof_id}".encode("utf-8", "surrogatepass"), used, 1)
        proven = self._prove(who)
        if read.next_nonce:
            proven = proven._replace(also=(*proven.also, NextNonce(read.next_nonce.encode())))
        if self._share is None:
            return Once(proven, (charge,))
        return Once(proven, (charge, Charge(f"{SHARE}{who.tenant}".encode(), self._share, 1)))

    def _prove(self, who: Identified) -> Proven:
        known = self._proven.get(id(who))
        if known is None or known[0] is not who:
            principal = Principal("user", who.principal, who.tenant, who.roles, who.attributes)
            known = self._proven.keep(id(who), (who, Proven(principal, Credential("token", who.issued, who.expires))))
        return known[1]

    def _by_key(self, text: str, now: float) -> Finding:
        if self._keys is None:
            return NO_KEYS
        try:
            return _holder(self._keys.identify(text, now, self._max_staleness_s))
        except ApiKeyError as error:
            return _refusal(error)


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
