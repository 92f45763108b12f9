"""Reads what a verified certificate says, once per connection. Verifying it is OpenSSL's work, in the handshake."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from interceptors.distinguished import canonical
from interceptors.facts import PeerCertificate
from sidecar.relay.tls_errors import TlsRefused

Extension = TypeVar("Extension", bound=x509.ExtensionType)

DER = 2  # _ssl.ENCODING_DER
GRAPHIC = frozenset(map(chr, range(0x21, 0x7F)))


def verified_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """The chain OpenSSL has verified, leaf first, in DER; () where the peer sent no certificate.

    `SSLObject.get_verified_chain` is public since Python 3.13; before, only the object beneath has it.
    """
    public = getattr(tls, "get_verified_chain", None)
    if public is not None:
        return tuple(cast("list[bytes]", public()))
    chain = cast("list[Any] | None", tls._sslobj.get_verified_chain())  # type: ignore[attr-defined]
    return tuple(certificate.public_bytes(DER) for certificate in chain or ())


def peer_certificate(chain: Sequence[bytes], domains: Mapping[bytes, frozenset[str]]) -> PeerCertificate:
    """What the leaf of a verified chain says, and which trust domains vouch for it.

    chain: DER, leaf first, not empty.  domains: CA certificate in DER → the trust domains whose own file holds it.
    Raises TlsRefused: "tls.two_uri_names", "tls.malformed_certificate", "tls.wrong_purpose" for a CA certificate
    that is presented as a client's, "tls.unknown_ca" where no domain holds a CA of the chain.
    """
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        fact = _read(certificates, frozenset().union(*(domains.get(der, frozenset()) for der in chain[1:])))
    except TlsRefused:
        raise
    except Exception as error:
        # Whatever the library makes of a certificate that OpenSSL could read: what is not understood is refused.
        raise TlsRefused("tls.malformed_certificate", str(error)) from error
    if not fact.trust_domains:
        raise TlsRefused("tls.unknown_ca", "no trust domain holds a CA certificate of the verified chain")
    return fact


def _read(chain: Sequence[x509.Certificate], domains: frozenset[str]) -> PeerCertificate:
    leaf = chain[0]
    basic = _extension(leaf, x509.BasicConstraints)
    if basic is not None and basic.ca:
        raise TlsRefused("tls.wrong_purpose", "expected a client's certificate, got one of a CA")
    names = _extension(leaf, x509.SubjectAlternativeName)
    uris = tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else ()
    dns = tuple(names.get_values_for_type(x509.DNSName)) if names else ()
    # SPIFFE X509-SVID 2: exactly one URI SAN; with two, each reader could take another for the identity.
    if len(uris) > 1:
        raise TlsRefused("tls.two_uri_names", f"expected at most one URI name, got {len(uris)}")
    for name in (*uris, *dns):
        if not name or not GRAPHIC.issuperset(name):
            raise ValueError("a URI or DNS name has characters outside 0x21-0x7e, or none")
    common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return PeerCertificate(
        uris=uris,
        dns=dns,
        common_name=str(common[0].value) if len(common) == 1 else "",  # of several, none is the name
        not_after=min(certificate.not_valid_after_utc.timestamp() for certificate in chain),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        trust_domains=domains,
        chain=tuple(name for certificate in chain for name in _known_by(certificate)),
    )


def _known_by(certificate: x509.Certificate) -> tuple[str, str]:
    issuer = [
        [(each.oid.dotted_string, _text(each.value)) for each in relative] for relative in certificate.issuer.rdns
    ]
    issued = f"{certificate.serial_number:x} {canonical(issuer)}"
    return certificate.fingerprint(hashes.SHA256()).hex(), issued


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else f"#{value.hex()}"


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
