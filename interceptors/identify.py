"""Who calls, by the client certificate of mutual TLS. Verifying the certificate is the TLS layer's."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from interceptors.bounded import Bounded
from interceptors.contract import PASS, Call, Code, Deny, Interceptor, Verdict
from interceptors.facts import PeerCertificate, Principal
from interceptors.spiffe import SpiffeError, trust_domain

MOST_REMEMBERED: Final = 8192  # certificates; one object per connection
PUBLIC: Final = "client identity required"
# RFC 1035 2.3.4 and RFC 1123 2.1, with the underscore that service names use; a wildcard identifies nobody.
LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST: Final = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*")
LONGEST_COMMON_NAME: Final = 256  # characters


def _unauthenticated(why: str) -> Deny:
    return Deny(Code.UNAUTHENTICATED, f"identify.{why}", PUBLIC)


NO_CERTIFICATE: Final = _unauthenticated("no_certificate")
EXPIRED: Final = _unauthenticated("expired")
SEVERAL_URIS: Final = _unauthenticated("several_uris")
SPIFFE_ID: Final = _unauthenticated("spiffe_id")
TRUST_DOMAIN: Final = _unauthenticated("trust_domain")
DNS_NAME: Final = _unauthenticated("dns_name")
NO_NAME: Final = _unauthenticated("no_name")


class Identify(Interceptor):
    """Puts the Principal, or denies UNAUTHENTICATED.

    Exactly one URI name makes a `spiffe:` principal, which only a CA of its own trust domain can vouch for; without
    one, exactly one DNS name a `dns:` one; else the common name a `cn:` one, where that is allowed.
    """

    name = "identify"
    gives = frozenset({Principal})

    def __init__(self, trust_domains: Collection[str], allow_common_name: bool = False) -> None:
        """trust_domains: names whose identities are accepted; `PeerCertificate.trust_domains` says who vouched."""
        self._trusted = frozenset(trust_domains)
        self._allow_common_name = allow_common_name
        self._known: Bounded[PeerCertificate, Principal | Deny] = Bounded(MOST_REMEMBERED)

    def on_start(self, call: Call) -> Verdict:
        certificate = call.peer.certificate
        if not isinstance(certificate, PeerCertificate):
            return NO_CERTIFICATE
        if call.now >= certificate.not_after:
            return EXPIRED
        who = self._known.get(certificate) or self._known.keep(certificate, self._name(certificate))
        if isinstance(who, Deny):
            return who
        call.put(who)
        return PASS

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
