"""Revocation outside a handshake: where some issuers may lack a CRL, which the settings call unsafe, and of connections
that are open when new CRLs come.

In a handshake OpenSSL checks either every certificate of a chain or the leaf alone, and refuses wherever an issuer has
no CRL.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from sidecar.relay.tls_errors import TlsRefused


class Revocations:
    """Refuses what its CRLs revoke. lenient: and nobody whose issuer has none.

    lists: full CRLs, each with a nextUpdate, as `pem.PemReader.revocations` gives them.
    """

    def __init__(self, lists: Sequence[x509.CertificateRevocationList], *, lenient: bool) -> None:
        self._lists = tuple(lists)
        self._lenient = lenient
        # Issuer → its lists: a signature is checked once, not for each of a thousand connections.
        self._of_issuer: dict[x509.Certificate, list[x509.CertificateRevocationList]] = {}

    def check(self, chain: Sequence[bytes], now: float) -> None:
        """chain: verified, DER, leaf first.  now: Unix seconds.

        Raises TlsRefused: "tls.revoked", "tls.crl_expired", "tls.bad_crl" where a CRL bears an issuer's name and
        not its signature; unless lenient, "tls.no_crl" where an issuer has none, a root being its own.
        """
        when = datetime.fromtimestamp(now, UTC)
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        for certificate, issuer in pairwise(certificates):
            self._check(certificate, issuer, when)
        if not self._lenient:
            last = certificates[-1]
            if last.issuer != last.subject:
                raise TlsRefused("tls.no_crl", "the chain ends below its root, whose CRL nobody can verify")
            self._check(last, last, when)

    def _check(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
        signed = self._of_issuer.get(issuer)
        if signed is None:
            signed = self._of_issuer[issuer] = [crl for crl in self._lists if _signed(crl, issuer)]
        if not signed:
            if any(crl.issuer == issuer.subject for crl in self._lists):
                raise TlsRefused("tls.bad_crl", "the CRL of this issuer does not bear its signature")
            if not self._lenient:
                raise TlsRefused("tls.no_crl")
            return
        if any(crl.get_revoked_certificate_by_serial_number(certificate.serial_number) for crl in signed):
            raise TlsRefused("tls.revoked")
        if not any(_current(crl, now) for crl in signed):
            raise TlsRefused("tls.crl_expired")


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # others raise TypeError
    except (TypeError, ValueError, InvalidSignature, UnsupportedAlgorithm):
        return False


def _current(crl: x509.CertificateRevocationList, now: datetime) -> bool:
    return crl.next_update_utc is not None and crl.last_update_utc <= now < crl.next_update_utc
