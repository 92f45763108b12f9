"""Whom a verified client certificate names. Verifying it is the TLS layer's."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from interceptors.bounded import Bounded
from interceptors.contract import Code, Deny
from interceptors.facts import Credential, PeerCertificate, Principal
from interceptors.spiffe import SpiffeError, trust_domain
from interceptors.tokens import Proven

MOST_REMEMBERED: Final = 8192  # certificates; one object per connection
PUBLIC: Final = "client identity required"
# RFC 1035 2.3.4 and RFC 1123 2.1, with the underscore that service names use; a wildcard identifies nobody.
LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST: Final = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*")
LONGEST_COMMON_NAME: Final = 256  # characters


def unauthenticated(why: str) -> Deny:
    return Deny(Code.UNAUTHENTICATED, f"identify.{why}", PUBLIC)


NO_CERTIFICATE: Final = unauthenticated("no_certificate")
EXPIRED: Final = unauthenticated("expired")
SEVERAL_URIS: Final = unauthenticated("several_uris")
SPIFFE_ID: Final = unauthenticated("spiffe_id")
TRUST_DOMAIN: Final = unauthenticated("trust_domain")
DNS_NAME: Final = unauthenticated("dns_name")
NO_NAME: Final = unauthenticated("no_name")


class Certificates:
    """Exactly one URI name makes a `spiffe:` principal, which only a CA of its own trust domain can vouch for; without
    one, exactly one DNS name a `dns:` one; else the common name a `cn:` one, where that is allowed.
    """

    def __init__(self, trust_domains: Collection[str], allow_common_name: bool) -> None:
        """trust_domains: names whose identities are accepted; `PeerCertificate.trust_domains` says who vouched."""
        self._trusted = frozenset(trust_domains)
        self._allow_common_name = allow_common_name
        self._known: Bounded[PeerCertificate, Proven | Deny] = Bounded(MOST_REMEMBERED)

    def identify(self, certificate: object, now: float) -> Proven | Deny:
        """certificate: as of `Peer`.  now: Unix seconds."""
        if not isinstance(certificate, PeerCertificate):
            return NO_CERTIFICATE
        if now >= certificate.not_after:
            return EXPIRED
        return self._known.get(certificate) or self._known.keep(certificate, self._look(certificate))

    def _look(self, certificate: PeerCertificate) -> Proven | Deny:
        who = self._name(certificate)
        if isinstance(who, Deny):
            return who
        return Proven(who, Credential("certificate", 0.0, certificate.not_after))

    def _name(self, certificate: PeerCertificate) -> Principal | Deny:
        """The principal that a verified certificate names, or why it names none."""
        vouched = self._trusted & certificate.trust_domains
        if len(certificate.uris) > 1:  # X509-SVID 5.2: must be rejected
            return SEVERAL_URIS
        if certificate.uris:
            try:
                domain = trust_domain(certificate.uris[0])
            except SpiffeError:
                return SPIFFE_ID
            return Principal("spiffe", certificate.uris[0]) if domain in vouched else TRUST_DOMAIN
        if not vouched:
            return TRUST_DOMAIN
        if len(certificate.dns) == 1:
            host = certificate.dns[0].lower()  # RFC 4343: DNS names compare without case
            return Principal("dns", f"dns:{host}") if HOST.fullmatch(host) else DNS_NAME
        name = certificate.common_name
        if self._allow_common_name and name.isprintable() and 0 < len(name) <= LONGEST_COMMON_NAME:
            return Principal("cn", f"cn:{name}")
        return NO_NAME
