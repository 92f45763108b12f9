"""What goes wrong in TLS, each with a stable reason for the audit trail.

    TlsError                UNAVAILABLE: a caller meets one only where the upstream's TLS failed
    ├── TlsRefused          the handshake, or the certificate in it, was refused by either side
    ├── TlsBroken           an established connection broke: bad record, truncation, use after close
    └── TlsSettingsError    files or settings of which no context can be made

`refusal` turns what the `ssl` module raises into the first two.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import ClassVar, Final

from interceptors.contract import Code
from sidecar.errors import SidecarError


class TlsError(SidecarError):
    """reason: stable, dotted, e.g. "tls.expired".  detail: for operators; no secret, nothing of the peer's."""

    code: ClassVar[Code] = Code.UNAVAILABLE
    public: ClassVar[str] = "model server unavailable"

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class TlsRefused(TlsError):
    """The handshake did not end in a connection."""


class TlsBroken(TlsError):
    """An established connection cannot go on."""


@dataclass(frozen=True, slots=True)
class TlsFault:
    """One thing wrong with the settings. field: the setting's name, e.g. "certificate" or "trust[0].ca"."""

    field: str
    problem: str


class TlsSettingsError(TlsError):
    """faults: everything that is wrong, not only the first."""

    def __init__(self, faults: tuple[TlsFault, ...]) -> None:
        super().__init__("tls.settings", "; ".join(f"{fault.field}: {fault.problem}" for fault in faults))
        self.faults = faults


# X509_V_ERR_* of openssl/x509_vfy.h, by what they mean to us; any other is "tls.bad_certificate".
VERIFY_REASONS: Final = {
    code: reason
    for reason, codes in {
        "tls.unknown_ca": (2, 18, 19, 20, 21, 27, 28),  # no issuer that we trust, self-signed
        "tls.not_yet_valid": (9,),
        "tls.expired": (10,),
        "tls.revoked": (23,),
        "tls.no_crl": (3, 44),  # none, or of another scope
        "tls.crl_expired": (12,),
        "tls.bad_crl": (5, 8, 11, 15, 16, 33, 35, 36, 54),  # signature, dates, issuer, critical extension
        "tls.wrong_purpose": (26, 39),
        "tls.bad_chain": (22, 24, 25, 32, 79, 80, 81, 82),  # too long, an issuer that is no CA
        "tls.bad_signature": (4, 7, 76, 77, 78),
        "tls.name_constraint": (47, 48, 49, 51, 52, 53),
        "tls.wrong_name": (62, 64),
        "tls.weak_key": (66, 67, 68),
        "tls.malformed_certificate": (6, 13, 14, 41),
    }.items()
    for code in codes
}

# openssl/sslerr.h, SSL_R_*; the values are our reasons.
LIBRARY_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls.no_certificate",
    "UNSUPPORTED_PROTOCOL": "tls.version",
    "VERSION_TOO_LOW": "tls.version",
    "WRONG_SSL_VERSION": "tls.version",
    "TLSV1_ALERT_PROTOCOL_VERSION": "tls.version",
    "NO_APPLICATION_PROTOCOL": "tls.no_alpn",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "tls.no_alpn",
    "HTTP_REQUEST": "tls.not_tls",
    "HTTPS_PROXY_REQUEST": "tls.not_tls",
    "WRONG_VERSION_NUMBER": "tls.not_tls",
    "PROTOCOL_IS_SHUTDOWN": "tls.closed",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "tls.bad_record",
    "SSLV3_ALERT_BAD_RECORD_MAC": "tls.bad_record",
}


def refusal(error: ssl.SSLError, *, handshaken: bool) -> TlsError:
    """What `error` means. A peer's alert is "tls.peer_refused", what has no name "tls.handshake" or "tls.broken"."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsRefused(VERIFY_REASONS.get(error.verify_code, "tls.bad_certificate"), error.verify_message)
    name = _name(error)
    fallback = "tls.peer_refused" if "_ALERT_" in name else "tls.broken" if handshaken else "tls.handshake"
    kind = TlsBroken if handshaken and "_ALERT_" not in name else TlsRefused
    return kind(LIBRARY_REASONS.get(name, fallback), name.lower().replace("_", " "))


def _name(error: ssl.SSLError) -> str:
    """SSL_R_* without its prefix. The ssl module lacks names that are younger than it; their text stays."""
    if error.reason:
        return error.reason
    found = re.search(r"\] (.+?)(?: \(_ssl|$)", str(error))
    return found[1].upper().replace(" ", "_") if found else ""
