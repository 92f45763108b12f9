"""What goes wrong in TLS, each with a stable reason for the audit trail.

    TlsError                UNAVAILABLE: a caller meets one only where the upstream's TLS failed
    ├── TlsRefused          the handshake, or the certificate in it, was refused by either side
    ├── TlsBroken           an established connection broke: bad record, truncation, use after close
    └── TlsSettingsError    files or settings of which no context can be made

`refusal` turns what the `ssl` module raises into the first two.
"""

from __future__ import annotations

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


# openssl/x509_vfy.h, X509_V_ERR_*.
VERIFY_REASONS: Final = {
    2: "tls.unknown_ca",  # unable to get issuer certificate
    3: "tls.no_crl",
    7: "tls.bad_signature",
    8: "tls.bad_crl",  # CRL signature failure
    9: "tls.not_yet_valid",
    10: "tls.expired",
    11: "tls.bad_crl",  # CRL not yet valid
    12: "tls.crl_expired",
    13: "tls.malformed_certificate",  # notBefore
    14: "tls.malformed_certificate",  # notAfter
    15: "tls.bad_crl",  # lastUpdate
    16: "tls.bad_crl",  # nextUpdate
    18: "tls.unknown_ca",  # self-signed leaf
    19: "tls.unknown_ca",  # self-signed certificate in chain
    20: "tls.unknown_ca",  # unable to get local issuer
    21: "tls.unknown_ca",  # unable to verify the first certificate
    22: "tls.bad_chain",  # too long
    23: "tls.revoked",
    24: "tls.bad_chain",  # issuer is no CA
    25: "tls.bad_chain",  # path length exceeded
    26: "tls.wrong_purpose",
    27: "tls.unknown_ca",  # not trusted
    33: "tls.bad_crl",  # no CRL issuer
    35: "tls.bad_crl",  # issuer may not sign CRLs
    36: "tls.bad_crl",  # unhandled critical CRL extension
    44: "tls.no_crl",  # different CRL scope
    47: "tls.name_constraint",
    48: "tls.name_constraint",
    62: "tls.wrong_name",
    64: "tls.wrong_name",  # IP address
    66: "tls.weak_key",
    67: "tls.weak_key",  # of the CA
    68: "tls.weak_signature",
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
    """What `error` means. The peer's own alerts become "tls.peer_refused", what has no name "tls.handshake"."""
    name = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = VERIFY_REASONS.get(error.verify_code, "tls.bad_certificate")
        return TlsRefused(reason, error.verify_message)
    fallback = "tls.broken" if handshaken else "tls.handshake"
    if "_ALERT_" in name:
        fallback = "tls.peer_refused"
    reason = LIBRARY_REASONS.get(name, fallback)
    kind = TlsBroken if handshaken and "_ALERT_" not in name else TlsRefused
    return kind(reason, name.lower().replace("_", " "))
