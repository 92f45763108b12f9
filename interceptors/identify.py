"""Who calls: by the credential that comes with the call, else by the client certificate of mutual TLS."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from typing import Final, TypeAlias

from interceptors.certificates import Certificates, unauthenticated
from interceptors.contract import PASS, AnswerError, Call, Code, Deny, Hook, Interceptor, Steps, Verdict, ask
from interceptors.facts import Credential, PeerCertificate, Principal
from interceptors.ledger import Ledger, NoLedger, Taken
from interceptors.tokens import FetchKeys, Finding, KeysWanted, Once, Proof, Proven, Tokens, UseProof

AUTHORIZATION: Final = b"authorization"
TAKEN_OFF: Final = frozenset((AUTHORIZATION,))
BEARER: Final = b"bearer"  # RFC 6750 2.1; RFC 9110 11.1: schemes compare without case
DPOP: Final = b"dpop"  # RFC 9449: the scheme (7.1), and the header with the proof (4.1)
SCHEME: Final = unauthenticated("scheme")
KEYS_UNAVAILABLE: Final = Deny(Code.UNAVAILABLE, "identify.keys_unavailable", "client identity cannot be verified now")
REPLAYED: Final = Deny(Code.UNAUTHENTICATED, "identify.token_proof_replayed", "token is not valid")
PROOFS_UNAVAILABLE: Final = Deny(
    Code.UNAVAILABLE, "identify.token_proofs_unavailable", "client identity cannot be verified now"
)
SHARE: Final = Deny(
    Code.RESOURCE_EXHAUSTED, "identify.token_proofs_share", "too many calls with proofs of possession; later again"
)
Refuse: TypeAlias = Callable[[PeerCertificate], Deny | None]


class Identify(Interceptor):
    """Puts the Principal and by what it was identified, or denies UNAUTHENTICATED.

    Who has proven a certificate that is revoked is nobody, whatever else comes with the call. A credential that comes
    with it decides alone: a bad one is refused, whatever the certificate says, and a good one is taken off the call,
    for whoever is behind the sidecar could use it elsewhere.
    """

    name = "identify"
    gives = frozenset({Principal, Credential})

    def __init__(
        self,
        trust_domains: Collection[str],
        allow_common_name: bool = False,
        tokens: Tokens | None = None,
        refuse: Refuse | None = None,
        ledger: Ledger | None = None,
        again: bool = False,
    ) -> None:
        """trust_domains, allow_common_name: as of Certificates.  tokens: None where `authorization` is not for us.

        refuse: why a certificate is revoked, or may be; None where none can be.  ledger: of proofs that were used.
        again: as of Proof.
        """
        self._known = trust_domains, allow_common_name
        self._certificates = Certificates(trust_domains, allow_common_name)
        self._tokens = tokens
        self._refuse = refuse
        self._ledger = ledger or NoLedger()
        self._again = again

    def again(self) -> Identify:
        """The same for calls that are under way, whose proofs have been used by them."""
        known = self._known
        return Identify(known[0], known[1], self._tokens, self._refuse, self._ledger, True)

    def on_start(self, call: Call) -> Hook:
        if self._refuse is not None and isinstance(call.peer.certificate, PeerCertificate):
            refused = self._refuse(call.peer.certificate)
            if refused is not None:
                return refused
        tokens = self._tokens
        if tokens is not None:
            presented = call.headers.get(AUTHORIZATION)
            if presented is not None:
                return self._by_token(call, tokens, presented)
        return _settle(call, self._certificates.identify(call.peer.certificate, call.now))

    def _by_token(self, call: Call, tokens: Tokens, presented: bytes) -> Hook:
        scheme, _, text = presented.partition(b" ")
        scheme, text = scheme.lower(), text.strip(b" ")
        proof: Proof | None = None
        if scheme == DPOP and tokens.proofs:
            proof = Proof(call.headers.all(DPOP), call.method.path, self._again)
        elif scheme != BEARER:
            return SCHEME
        if not text:
            return SCHEME
        call.headers.edit(TAKEN_OFF, ())
        if tokens.proofs:
            call.headers.drop(DPOP)
        certificate = call.peer.certificate
        fingerprint = certificate.fingerprint if isinstance(certificate, PeerCertificate) else ""
        credential = text.decode("latin-1")
        found = tokens.identify(credential, fingerprint, call.now, proof)
        if isinstance(found, KeysWanted):
            return self._with_new_keys(call, tokens, credential, fingerprint, proof, found.issuer)
        return self._use(call, found) if isinstance(found, Once) else _settle(call, found)

    def _with_new_keys(
        self, call: Call, tokens: Tokens, credential: str, fingerprint: str, proof: Proof | None, issuer: str
    ) -> Steps[Verdict]:
        try:
            yield from ask(FetchKeys(issuer))
        except AnswerError:
            return KEYS_UNAVAILABLE
        found = tokens.identify(credential, fingerprint, call.now, proof)
        if isinstance(found, Once):
            used = self._use(call, found)
            return (yield from used) if isinstance(used, Generator) else used
        return _settle(call, found.otherwise if isinstance(found, KeysWanted) else found)

    def _use(self, call: Call, found: Once) -> Hook:
        taken = self._ledger.take_all(found.charges)
        return self._use_later(call, found) if taken.refusal == "ledger_busy" else _used(call, found, taken)

    def _use_later(self, call: Call, found: Once) -> Steps[Verdict]:
        try:
            taken = yield from ask(UseProof(found.charges))
        except AnswerError:
            return PROOFS_UNAVAILABLE
        return _used(call, found, taken)


def _used(call: Call, found: Once, taken: Taken) -> Verdict:
    if not taken.refusal:
        return _settle(call, found.proven)
    if taken.refusal != "exceeded":
        return PROOFS_UNAVAILABLE
    return SHARE if taken.at else REPLAYED


def _settle(call: Call, found: Finding) -> Verdict:
    if not isinstance(found, Proven):
        return found if isinstance(found, Deny) else KEYS_UNAVAILABLE
    call.put(found.principal)
    call.put(found.credential)
    for fact in found.also:
        call.put(fact)
    if found.credential.kind != "certificate":  # with which its connection ends, and all calls there
        call.expires = min(call.expires, found.credential.expires)
    return PASS
