"""The port to whoever knows credentials that travel with a call: tokens of issuers, and API keys."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from interceptors.contract import Ask, Deny
from interceptors.facts import Credential, Principal


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


Finding: TypeAlias = Proven | KeysWanted | Deny


class Tokens(Protocol):
    """Called on the event loop's thread with every call: what is known already is answered in microseconds."""

    def identify(self, text: str, fingerprint: str, now: float) -> Finding:
        """text: the credential, never recorded, logged or sent on.  now: Unix seconds.

        fingerprint: of the certificate that this connection's caller has proven to hold, as of PeerCertificate, or "".
        """


class FetchKeys(Ask[None]):
    """Fetch an issuer's keys anew, unless that was done a moment ago; answered once they are in force."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
