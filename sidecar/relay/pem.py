"""Reads the PEM files that TLS settings name. Each fault is collected, with what was expected and what came.

A file is read once: what was checked is what is loaded, however the file changes meanwhile.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sidecar.relay.tls_errors import TlsFault

CRL_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
OTHERS_MAY_READ = 0o004


@dataclass(frozen=True, slots=True)
class Identity:
    """pem: certificate, intermediates and key, for `memory_file`.  not_after: the certificate's, Unix seconds."""

    pem: bytes = field(repr=False)
    not_after: float


@contextmanager
def memory_file(data: bytes) -> Iterator[str]:
    """The path of a file in memory that holds `data`: for a library that reads only files, and for no one else."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class PemReader:
    """Reads files for one set of settings.

    now: Unix seconds.  faults: what forbids to use the settings.  warnings: what an operator should know.
    """

    def __init__(self, now: float) -> None:
        self.now = datetime.fromtimestamp(now, UTC)
        self.faults: list[TlsFault] = []
        self.warnings: list[TlsFault] = []

    def identity(self, certificate: Path, key: Path) -> Identity | None:
        """Our own certificate, the intermediates after it, and its key; None with faults."""
        chain = self._certificates("certificate", certificate)
        private = self._key(key)
        if not chain or private is None:
            return None
        self._valid_now("certificate", certificate, chain[0])
        if _public(chain[0].public_key()) != _public(private.public_key()):
            self.faults.append(TlsFault("key", f"{key} does not belong to the certificate in {certificate}"))
            return None
        parts = [part.public_bytes(Encoding.PEM) for part in chain]
        parts.append(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Identity(b"".join(parts), chain[0].not_valid_after_utc.timestamp())

    def authorities(self, name: str, path: Path) -> tuple[x509.Certificate, ...]:
        """The CA certificates of a trust file; () with faults."""
        found = self._certificates(name, path)
        for number, certificate in enumerate(found, 1):
            try:
                ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            except (x509.ExtensionNotFound, ValueError):
                ca = False
            if not ca:
                self.faults.append(TlsFault(name, f"certificate {number} of {path} is not one of a CA"))
            if certificate.not_valid_after_utc <= self.now:
                self.warnings.append(TlsFault(name, f"certificate {number} of {path} {_expired(certificate)}"))
        return found

    def revocations(self, name: str, path: Path) -> tuple[x509.CertificateRevocationList, ...]:
        """The CRLs of a file; () with faults. Only full CRLs: a delta or a partition says too little on its own."""
        data = self._read(name, path)
        if data is None:
            return ()
        blocks = CRL_BLOCK.findall(data)
        # The library loads certificates from such a file, too, and would trust them.
        if not blocks or b"CERTIFICATE-----" in data:
            self.faults.append(TlsFault(name, f"{path}: expected PEM blocks of type X509 CRL and no others"))
            return ()
        found = []
        for number, block in enumerate(blocks, 1):
            try:
                crl = x509.load_pem_x509_crl(block)
                critical = [extension.oid.dotted_string for extension in crl.extensions if extension.critical]
            except ValueError as error:
                self.faults.append(TlsFault(name, f"CRL {number} of {path} cannot be read: {error}"))
                continue
            if critical or crl.next_update_utc is None:
                lack = f"has critical extensions {critical}" if critical else "has no nextUpdate"
                self.faults.append(TlsFault(name, f"CRL {number} of {path} {lack}; expected a full CRL with one"))
            elif crl.next_update_utc <= self.now:
                self.warnings.append(
                    TlsFault(name, f"CRL {number} of {path} expired at {crl.next_update_utc.isoformat()}")
                )
            found.append(crl)
        return tuple(found)

    def _certificates(self, name: str, path: Path) -> tuple[x509.Certificate, ...]:
        data = self._read(name, path)
        if data is None:
            return ()
        try:
            return tuple(x509.load_pem_x509_certificates(data))
        except ValueError:
            self.faults.append(TlsFault(name, f"{path} cannot be read; expected certificates in PEM"))
            return ()

    def _key(self, path: Path) -> PrivateKeyTypes | None:
        data = self._read("key", path)
        if data is None:
            return None
        try:
            if path.stat().st_mode & OTHERS_MAY_READ:
                self.warnings.append(TlsFault("key", f"{path} may be read by every user of this host"))
            return serialization.load_pem_private_key(data, password=None)
        except TypeError:
            problem = "is encrypted; expected a key without a passphrase"
        except (ValueError, UnsupportedAlgorithm):
            problem = "cannot be read; expected a private key in PEM"
        self.faults.append(TlsFault("key", f"{path} {problem}"))
        return None

    def _read(self, name: str, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except OSError as error:
            self.faults.append(TlsFault(name, f"cannot read {path}: {error.strerror}"))
            return None

    def _valid_now(self, name: str, path: Path, certificate: x509.Certificate) -> None:
        if certificate.not_valid_after_utc <= self.now:
            self.faults.append(TlsFault(name, f"{path} {_expired(certificate)}"))
        elif certificate.not_valid_before_utc > self.now:
            start = certificate.not_valid_before_utc.isoformat()
            self.faults.append(TlsFault(name, f"{path} is not valid before {start}"))


def _expired(certificate: x509.Certificate) -> str:
    return f"expired at {certificate.not_valid_after_utc.isoformat()}"


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
