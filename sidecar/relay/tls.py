"""TLS contexts, and whom they trust. A channel that moves bytes is `tls_channel`; what a certificate says,
`certificates`; what is refused and why, `tls_errors`.

A context is made whole from its files, or not at all, and never changed: a reload makes a new one, for a
certificate that was added to a live store, or a CRL that was not, cannot be taken back.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from interceptors.facts import PeerCertificate
from sidecar.relay.certificates import peer_certificate, verified_chain
from sidecar.relay.pem import Identity, PemReader, memory_file
from sidecar.relay.revocation import Revocations
from sidecar.relay.tls_channel import ALPN, TlsChannel
from sidecar.relay.tls_errors import TlsFault, TlsRefused, TlsSettingsError

# 112 bits of security at least in keys and signatures; for TLS 1.2, what RFC 9113 9.2.2 leaves.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """ca: PEM file with the CA certificates that vouch for `domain`. Several domains may name one file."""

    domain: str
    ca: Path


@dataclass(frozen=True, slots=True)
class ServerTlsSettings:
    """certificate: PEM, leaf first, then its intermediates.  key: PEM, without a passphrase.
    trust: who vouches for clients; empty only where client_certificates is "none".
    crl: PEM file of full CRLs; with one, every issuer in a client's chain needs a current CRL in it, a root
    included, unless unsafe_allow_missing_crl lets those pass whose issuer has none.
    """

    certificate: Path
    key: Path
    trust: tuple[TrustAnchor, ...] = ()
    client_certificates: Literal["required", "optional", "none"] = "required"
    crl: Path | None = None
    unsafe_allow_missing_crl: bool = False


@dataclass(frozen=True, slots=True)
class ClientTlsSettings:
    """ca: PEM file of the CAs that may vouch for the server.  server_name: the DNS name or IP address that must
    stand in its certificate's subject alternative names.  certificate, key: ours, both or neither.
    """

    ca: Path
    server_name: str
    certificate: Path | None = None
    key: Path | None = None
    unsafe_allow_tls12: bool = False


class ServerTls:
    """How we accept connections: TLS 1.3 and h2 only, no sessions, client certificates as the settings say.

    A client's certificate must chain to a CA of some trust domain, be valid now, not be revoked, and carry
    clientAuth where it has an extended key usage at all (RFC 5280 4.2.1.12: none means any; anyExtendedKeyUsage
    alone is refused, as OpenSSL does).
    now: Unix seconds.  warnings: what weakens it, or soon refuses clients.  not_after: when our own certificate
    expires, Unix seconds.  Raises TlsSettingsError with every fault.
    """

    def __init__(self, settings: ServerTlsSettings, now: float) -> None:
        reader = PemReader(now)
        identity = reader.identity(settings.certificate, settings.key)
        if settings.client_certificates != "none" and not settings.trust:
            reader.faults.append(TlsFault("trust", "expected a CA file, for client certificates are asked for"))
        trusted: dict[bytes, frozenset[str]] = {}
        for number, anchor in enumerate(settings.trust):
            for certificate in reader.authorities(f"trust[{number}].ca", anchor.ca):
                der = certificate.public_bytes(Encoding.DER)
                trusted[der] = trusted.get(der, frozenset()) | {anchor.domain}
        lists = reader.revocations("crl", settings.crl) if settings.crl else ()
        if settings.unsafe_allow_missing_crl:
            reader.warnings.append(TlsFault("unsafe_allow_missing_crl", "clients whose issuer has no CRL are let in"))
        strict = settings.crl is not None and not settings.unsafe_allow_missing_crl
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _harden(context, ssl.TLSVersion.TLSv1_3)
        # No session outlives its connection: a resumed one would skip a CRL that came later, and even expiry.
        context.num_tickets = 0
        context.verify_mode = VERIFY_MODES[settings.client_certificates]
        _fill(context, reader, identity, tuple(trusted), lists if strict else ())
        self._context = context
        self._trusted = trusted
        self._demanded = settings.client_certificates == "required"
        self._revocations = Revocations(lists, lenient=not strict) if settings.crl else None
        self._lenient = self._revocations if settings.unsafe_allow_missing_crl else None
        self.not_after = identity.not_after if identity else 0.0
        self.warnings = tuple(reader.warnings)

    def channel(self, now: float, latest: Callable[[], ServerTls] | None = None) -> TlsChannel:
        """The channel of a connection accepted at `now`, Unix seconds.

        latest: what is in force when the handshake ends; where that is another, it judges the peer as well.
        """

        def admit(tls: ssl.SSLObject) -> PeerCertificate | None:
            chain = verified_chain(tls)
            current = latest() if latest is not None else self
            if current is not self:
                return current.recheck(chain, now)
            if not chain:
                return None
            certificate = peer_certificate(chain, self._trusted)
            if self._lenient is not None:
                self._lenient.check(chain, now)
            return certificate

        return TlsChannel(self._context, admit, server_side=True)

    def recheck(self, chain: Sequence[bytes], now: float) -> PeerCertificate | None:
        """What a peer is here whose chain other settings have verified: its signatures hold, so that what is left to
        ask is whom we trust, what is revoked and what has expired.

        chain: DER, leaf first; () of a peer without a certificate.  now: Unix seconds.  Raises TlsRefused, also for a
        chain that only a certificate it does not hold could save: the client may connect anew, and show another.
        """
        if not chain:
            if self._demanded:
                raise TlsRefused("tls.no_certificate")
            return None
        # The farthest: what is above a trusted CA may have revoked it.
        anchored = max((at for at in range(1, len(chain)) if chain[at] in self._trusted), default=0)
        if not anchored:
            raise TlsRefused("tls.unknown_ca", "no CA certificate of the chain is trusted any more")
        path = chain[: anchored + 1]
        certificate = peer_certificate(path, self._trusted)
        if certificate.not_after <= now:
            raise TlsRefused("tls.expired")
        if self._revocations is not None:
            self._revocations.check(path, now)
        return certificate


class ClientTls:
    """How we connect to a model server: its certificate checked against the CA and by name, ours shown if asked for.

    TLS 1.3, or 1.2 with forward secrecy and AEAD where the settings allow it.  now: Unix seconds.
    warnings and not_after as in `ServerTls`; not_after is None where we have no certificate.
    digest: of all that it was made of, so that two can be told apart.
    Raises TlsSettingsError with every fault.
    """

    def __init__(self, settings: ClientTlsSettings, now: float) -> None:
        reader = PemReader(now)
        identity = None
        if settings.certificate and settings.key:
            identity = reader.identity(settings.certificate, settings.key)
        elif settings.certificate or settings.key:
            lack = "key" if settings.certificate else "certificate"
            reader.faults.append(TlsFault(lack, "expected both a certificate and its key, or neither"))
        if not settings.server_name:
            reader.faults.append(TlsFault("server_name", "expected the name in the server's certificate, got none"))
        trusted = [certificate.public_bytes(Encoding.DER) for certificate in reader.authorities("ca", settings.ca)]
        if settings.unsafe_allow_tls12:
            reader.warnings.append(TlsFault("unsafe_allow_tls12", "TLS 1.2 is accepted from the server"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.hostname_checks_common_name = False
        _harden(context, ssl.TLSVersion.TLSv1_2 if settings.unsafe_allow_tls12 else ssl.TLSVersion.TLSv1_3)
        _fill(context, reader, identity, trusted, ())
        self._context = context
        self._server_name = settings.server_name
        material = b"".join((*trusted, identity.pem if identity else b"", repr(settings).encode()))
        self.digest = hashlib.sha256(material).digest()
        self.not_after = identity.not_after if identity else None
        self.warnings = tuple(reader.warnings)

    def channel(self, server_name: str = "") -> TlsChannel:
        """The channel of a new connection, to another server than the settings name where one is given.

        Write what its `start` returns first.
        """
        name = server_name or self._server_name
        return TlsChannel(self._context, _admit_server, server_side=False, server_hostname=name)


VERIFY_MODES: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def _admit_server(_tls: ssl.SSLObject) -> None:
    """OpenSSL has checked the server's certificate and name; nothing of it is an identity here."""


def _harden(context: ssl.SSLContext, oldest: ssl.TLSVersion) -> None:
    context.minimum_version = oldest
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols([ALPN])
    # Every certificate of a trust file is an anchor, also an intermediate whose root is not there.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


def _fill(
    context: ssl.SSLContext,
    reader: PemReader,
    identity: Identity | None,
    trusted: Sequence[bytes],
    lists: Sequence[x509.CertificateRevocationList],
) -> None:
    """Load what the reader has read. Raises TlsSettingsError with every fault, the library's own included."""
    try:
        if identity is not None:
            with memory_file(identity.pem) as path:
                context.load_cert_chain(path)
        if trusted:
            context.load_verify_locations(cadata=b"".join(trusted))
        if lists:
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
            with memory_file(b"".join(crl.public_bytes(Encoding.PEM) for crl in lists)) as path:
                context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        reader.faults.append(TlsFault("certificate", f"OpenSSL refuses it: {error.reason}"))
    if reader.faults:
        raise TlsSettingsError(tuple(reader.faults))
