"""Revocation where some issuers may lack a CRL, which the settings call unsafe.

OpenSSL checks either every certificate of a chain or the leaf alone, and refuses wherever an issuer has no CRL.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from sidecar.relay.tls_errors import TlsRefused


class LenientRevocations:
    """Refuses what its CRLs revoke, and nobody whose issuer has none.

    lists: full CRLs, each with a nextUpdate, as `pem.PemReader.revocations` gives them.
    """

    def __init__(self, lists: Sequence[x509.CertificateRevocationList]) -> None:
        self._lists = tuple(lists)

    def check(self, chain: Sequence[bytes], now: float) -> None:
        """chain: verified, DER, leaf first.  now: Unix seconds.

        Raises TlsRefused: "tls.revoked", "tls.crl_expired", "tls.bad_crl" where a CRL bears an issuer's name and
        not its signature.
        """
        when = datetime.fromtimestamp(now, UTC)
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        for certificate, issuer in pairwise(certificates):
            self._check(certificate, issuer, when)

    def _check(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
        signed = [crl for crl in self._lists if _signed(crl, issuer)]
        if not signed:
            if any(crl.issuer == issuer.subject for crl in self._lists):
                raise TlsRefused("tls.bad_crl", "the CRL of this issuer does not bear its signature")
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
