"""A certificate authority in memory: P-256, as few extensions as RFC 5280 and SPIFFE X509-SVID ask for.

Time and chance are arguments; files are not handled here. It serves development and tests, and says nothing
about who may ask for a certificate.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Chance: TypeAlias = Callable[[int], bytes]

CLIENT: Final = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER: Final = (ExtendedKeyUsageOID.SERVER_AUTH,)
SERIAL_BYTES: Final = 16  # RFC 5280 4.1.2.2 allows 20
KEY_BYTES: Final = 40  # of chance for a P-256 key: 64 bits above its order leave no bias, FIPS 186-5 A.2.1
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key.  chain: the certificate, then the intermediates up to its root's child."""

    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    def chain_pem(self) -> bytes:
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Authority:
    """A CA that signs leaves, other CAs and CRLs.

    own: its certificate and key.  chance: n → n random bytes; of a generator that repeats, all keys and serial
    numbers repeat (signatures do not).
    """

    def __init__(self, own: Issued, chance: Chance) -> None:
        self.own = own
        self._chance = chance

    @classmethod
    def root(cls, name: str, *, start: datetime, end: datetime, chance: Chance) -> Authority:
        """A self-signed CA named `name`, valid from `start` to `end`."""
        key = _key(chance)
        subject = _subject(name)
        builder = _builder(subject, key, start, end, chance).issuer_name(subject)
        certificate = _as_ca(builder, path_length=None).sign(key, hashes.SHA256())
        return cls(Issued((certificate,), key), chance)

    def intermediate(self, name: str, *, start: datetime, end: datetime) -> Authority:
        """A CA below this one, that may sign leaves only."""
        key = _key(self._chance)
        builder = _as_ca(_builder(_subject(name), key, start, end, self._chance), path_length=0)
        return Authority(Issued((self._sign(builder), *self._intermediates()), key), self._chance)

    def issue(
        self,
        name: str = "",
        *,
        start: datetime,
        end: datetime,
        uris: Sequence[str] = (),
        dns: Sequence[str] = (),
        addresses: Sequence[str] = (),
        purposes: Sequence[x509.ObjectIdentifier] = CLIENT,
    ) -> Issued:
        """A leaf with a new key.

        name: its common name, "" for an empty subject.  uris, dns, addresses: subject alternative names, in that
        order; without any the extension is left out.  purposes: extended key usages; () leaves the extension out.
        """
        key = _key(self._chance)
        builder = _builder(_subject(name), key, start, end, self._chance)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.DNSName(host) for host in dns]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        if names:
            # RFC 5280 4.2.1.6: critical where the subject is empty.
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not name)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return Issued((self._sign(builder), *self._intermediates()), key)

    def crl(
        self, *revoked: x509.Certificate, start: datetime, end: datetime, number: int = 1
    ) -> x509.CertificateRevocationList:
        """A full CRL made at `start`, whose successor is due at `end`.  revoked: in force since `start`."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.own.certificate.subject)
        builder = builder.last_update(start).next_update(end)
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        builder = builder.add_extension(self._identifier(), critical=False)
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(start)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.own.key, hashes.SHA256())

    def _intermediates(self) -> tuple[x509.Certificate, ...]:
        """What a peer that knows only the root needs besides a leaf."""
        own = self.own.certificate
        return () if own.issuer == own.subject else self.own.chain

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.own.key.public_key())

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        builder = builder.issuer_name(self.own.certificate.subject)
        return builder.add_extension(self._identifier(), critical=False).sign(self.own.key, hashes.SHA256())


def _key(chance: Chance) -> ec.EllipticCurvePrivateKey:
    """FIPS 186-5 A.2.1: a scalar in [1, n-1] from extra random bits."""
    scalar = int.from_bytes(chance(KEY_BYTES), "big") % (P256_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, start: datetime, end: datetime, chance: Chance
) -> x509.CertificateBuilder:
    serial = int.from_bytes(chance(SERIAL_BYTES), "big") | 1  # positive
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key()).serial_number(serial)
    builder = builder.not_valid_before(start).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _as_ca(builder: x509.CertificateBuilder, path_length: int | None) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
