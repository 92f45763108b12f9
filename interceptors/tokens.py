"""The port to whoever knows credentials that travel with a call: tokens of issuers, and API keys."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from interceptors.contract import Ask, Deny
from interceptors.facts import Credential, Principal
from interceptors.ledger import Charge, Taken


class Proven(NamedTuple):
    """Who presents a good credential. also: what else it says of the call, facts."""

    principal: Principal
    credential: Credential
    also: tuple[object, ...] = ()


class KeysWanted(NamedTuple):
    """The token names a key that its issuer's set, as it is known here, does not have.

    issuer: for FetchKeys.  otherwise: what it comes to where the set does not have it then.
    """

    issuer: str
    otherwise: Deny


class Proof(NamedTuple):
    """What came with a token that is bound to a key. given: every `dpop` header.  path: of the method that is called.

    again: whether the call is under way, let in with this very proof, which is not to be fresh any more.
    """

    given: tuple[bytes, ...]
    path: str
    again: bool


class Once(NamedTuple):
    """Good, unless the proof was used before. charges: the first empties the proof's bucket.

    Others are of those who share the ledger: how much of it they may have.
    """

    proven: Proven
    charges: tuple[Charge, ...]


Finding: TypeAlias = Proven | Once | KeysWanted | Deny


class Tokens(Protocol):
    """Called on the event loop's thread with every call: what is known already is answered in microseconds."""

    @property
    def proofs(self) -> bool:
        """Whether tokens that are bound to a key are taken, with proofs of it (RFC 9449)."""

    def identify(self, text: str, fingerprint: str, now: float, proof: Proof | None = None) -> Finding:
        """text: the credential, never recorded, logged or sent on.  now: Unix seconds.

        fingerprint: of the certificate that this connection's caller has proven to hold, as of PeerCertificate, or "".
        proof: None where the credential came as a bearer's.
        """


class UseProof(Ask[Taken]):
    """Take charges of a `Once`, waiting for a ledger that is busy, within bounds."""

    def __init__(self, charges: tuple[Charge, ...]) -> None:
        self.charges = charges


class FetchKeys(Ask[None]):
    """Fetch an issuer's keys anew, unless that was done a moment ago; answered once they are in force."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
