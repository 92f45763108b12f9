"""The port to whoever knows tokens: bearer tokens of issuers, and API keys. Who verifies them is not known here."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from interceptors.contract import Ask, Deny
from interceptors.facts import Principal


class Presented(NamedTuple):
    """A credential as it came with a call. text: never recorded, logged or sent on.

    certificate: SHA-256 of the one that this connection's caller has proven to hold, b"" for none.
    """

    text: str
    certificate: bytes


class Proven(NamedTuple):
    """Who presents a good credential. expires: Unix seconds from which it is good no more, inf for never."""

    principal: Principal
    expires: float


class KeysWanted(NamedTuple):
    """The token names a key that its issuer's set, as it is known here, does not have. issuer: for FetchKeys."""

    issuer: str
    otherwise: Deny


Finding: TypeAlias = Proven | KeysWanted | Deny


class Tokens(Protocol):
    """Called on the event loop's thread, with every call: what is known already is answered in microseconds."""

    def identify(self, presented: Presented, now: float) -> Finding:
        """now: Unix seconds."""


class FetchKeys(Ask[None]):
    """Fetch an issuer's keys anew, unless that was done a moment ago; answered once they are in force."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
