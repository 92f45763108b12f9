"""A worker's knowledge of revocations. Used on the event loop's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from interceptors.certificates import unauthenticated
from interceptors.contract import Code, Deny
from interceptors.distinguished import DistinguishedNameError, canonical, parse
from interceptors.facts import PeerCertificate
from sidecar.identity.jws import TokenError
from sidecar.identity.model import Identified
from sidecar.identity.revocations_model import (
    CERTIFICATE,
    CERTIFICATES,
    ISSUER,
    PRINCIPAL,
    TOKEN,
    TOKEN_ID,
    Subject,
    Told,
    decode,
    scopes,
)

NEVER: Final = float("-inf")
REVOKED: Final = unauthenticated("certificate_revoked")
STALE: Final = Deny(Code.UNAVAILABLE, "identify.revocations_stale", "client identity cannot be verified now")


class StaleRevocationsError(TokenError):
    """Something may have been revoked since this was last known, or is not known yet."""

    code = Code.UNAVAILABLE
    public = STALE.public

    def __init__(self) -> None:
        super().__init__(STALE.reason)


class RevocationsKnown:
    """age: seconds since what was told was known to be so.  clock: seconds of CLOCK_BOOTTIME.

    changed: told when there is another, and whether it is of a certificate.
    """

    def __init__(self, age: Callable[[], float], changed: Callable[[bool], None], clock: Callable[[], float]) -> None:
        self._age = age
        self._changed = changed
        self._clock = clock
        self._so = NEVER  # when whoever tells had read what there is
        self._told: dict[str, Told] = {}
        self._tokens: dict[tuple[str, Subject], float] = {}  # by tenant and subject: those issued before are revoked
        self._certificates: dict[str, int] = {}  # by fingerprint, or number and issuer: how many revocations name it

    def listen(self, key: str, value: Any) -> None:
        """value: of `encode`; None where it is over."""
        before = self._told.pop(key, None)
        if before is not None:
            self._forget(before)
        if value is None:
            return
        told = self._told[key] = decode(value)
        certificate = told.subject.kind in CERTIFICATES
        if certificate:
            name = _certificate(told.subject)
            self._certificates[name] = self._certificates.get(name, 0) + 1
        else:
            self._tokens[told.tenant, told.subject] = told.issued_before
        if told != before:
            self._changed(certificate)

    def listen_so(self, _key: str, value: Any) -> None:
        """value: of `SO`; None where whoever tells has begun anew."""
        if value is not None:
            self._so = value

    def age(self) -> float:
        """Seconds since all that is known was known to be so; infinite before it was told."""
        return max(self._age(), self._clock() - self._so)

    def stale(self, max_staleness_s: float) -> bool:
        return self.age() > max_staleness_s

    def token(self, who: Identified, url: str, digest: bytes, max_staleness_s: float) -> bool:
        """Whether a token is revoked. url: its `iss`.  digest: of what is signed. Raises StaleRevocationsError."""
        if self.stale(max_staleness_s):
            raise StaleRevocationsError
        if not self._tokens:
            return False
        subjects = (
            Subject(TOKEN, "", digest.hex()),
            Subject(PRINCIPAL, "", who.principal),
            Subject(ISSUER, url, ""),
            *((Subject(TOKEN_ID, url, who.token_id),) if who.token_id else ()),
        )
        return any(
            who.issued < self._tokens.get((tenant, subject), NEVER)
            for tenant in scopes(who.tenant)
            for subject in subjects
        )

    def certificate(self, certificate: PeerCertificate) -> bool:
        """Whether one of the chain is revoked."""
        return bool(self._certificates) and not self._certificates.keys().isdisjoint(certificate.chain)

    def refuse(self, certificate: PeerCertificate, max_staleness_s: float) -> Deny | None:
        """Why nobody who holds the certificate is identified."""
        if self.stale(max_staleness_s):
            return STALE
        return REVOKED if self.certificate(certificate) else None

    def _forget(self, told: Told) -> None:
        if told.subject.kind not in CERTIFICATES:
            self._tokens.pop((told.tenant, told.subject), None)
            return
        name = _certificate(told.subject)
        self._certificates[name] -= 1
        if not self._certificates[name]:
            del self._certificates[name]


def _certificate(subject: Subject) -> str:
    """As certificates are named in a `PeerCertificate.chain`."""
    return subject.name if subject.kind == CERTIFICATE else f"{subject.name} {_issuer(subject.issuer)}"


def _issuer(text: str) -> str:
    """What was kept by a version that compared names letter by letter is spelt as certificates' issuers are now."""
    try:
        return canonical(parse(text))
    except DistinguishedNameError:
        return text
