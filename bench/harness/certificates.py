"""A certificate authority for one run: a server's certificate for loopback and a client's with a SPIFFE id."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN = "example.org"
CALLERS = f"spiffe://{TRUST_DOMAIN}/bench/"  # how all clients' names begin
CLIENT = f"{CALLERS}client"
LIFE = datetime.timedelta(days=90)  # beyond what a sidecar warns of


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files, and a folder of them. The keys are P-256."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    callers: Path


def issue(folder: Path, now: datetime.datetime, callers: int = 0) -> Certificates:
    """Write a fresh authority's certificates into `folder`; they are good for 90 days from `now`.

    callers: clients beside the one, of identities of their own and with its key, in `callers`/0.pem and so on.
    """
    authority = _Authority(now)
    server = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    )
    files = ("ca.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem", "callers")
    names = Certificates(*(folder / file for file in files))
    names.ca.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    authority.issue(names.server, names.server_key, server, ExtendedKeyUsageOID.SERVER_AUTH)
    key = authority.issue(names.client, names.client_key, _spiffe(CLIENT), ExtendedKeyUsageOID.CLIENT_AUTH)
    if callers:
        names.callers.mkdir()
    for number in range(callers):
        file = names.callers / f"{number}.pem"
        authority.certify(file, key, _spiffe(f"{CALLERS}{number}"), ExtendedKeyUsageOID.CLIENT_AUTH)
    return names


def _spiffe(name: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)])


class _Authority:
    def __init__(self, now: datetime.datetime) -> None:
        self._begin = now - datetime.timedelta(minutes=5)
        self._end = now + LIFE
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench authority")])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # certificates and CRLs
        self.certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue(
        self, file: Path, key_file: Path, names: x509.SubjectAlternativeName, use: x509.ObjectIdentifier
    ) -> ec.EllipticCurvePrivateKey:
        """A certificate, and the key it is for."""
        key = ec.generate_private_key(ec.SECP256R1())
        self.certify(file, key, names, use)
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return key

    def certify(
        self,
        file: Path,
        key: ec.EllipticCurvePrivateKey,
        names: x509.SubjectAlternativeName,
        use: x509.ObjectIdentifier,
    ) -> None:
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)  # signatures
        certificate = (
            self._builder(x509.Name([]), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(names, critical=True)  # RFC 5280 4.2.1.6: critical where the subject is empty
            .sign(self._key, hashes.SHA256())
        )
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._begin)
            .not_valid_after(self._end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(identifier, critical=False)
        )
