"""Files and settings of which no context can be made: every fault at once, by the setting's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.relay.tls import ClientTls, ClientTlsSettings, ServerTls, TrustAnchor
from sidecar.relay.tls_errors import TlsSettingsError
from tests.relay.tls_pair import HOUR, NOW, SPIFFE, Pki


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def file(pki: Pki, data: bytes) -> Path:
    path = pki.directory / "file.pem"
    path.write_bytes(data)
    return path


def encrypted(pki: Pki) -> Path:
    key = serialization.load_pem_private_key(pki.server[1].read_bytes(), None)
    form = serialization.PrivateFormat.PKCS8
    return file(pki, key.private_bytes(Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret")))


def partial_crl(pki: Pki) -> Path:
    """One that says only what is revoked since another."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(pki.root.own.certificate.subject)
    builder = builder.last_update(NOW).next_update(NOW + HOUR).add_extension(x509.DeltaCRLIndicator(1), critical=True)
    return pki.crl(builder.sign(pki.root.own.key, hashes.SHA256()))


def crl_and_more(pki: Pki) -> Path:
    crl = pki.root.crl(start=NOW, end=NOW + HOUR)
    return file(pki, crl.public_bytes(Encoding.PEM) + pki.ca.read_bytes())


def expired(pki: Pki) -> dict[str, Path]:
    certificate, key = pki.write("old", pki.leaf(dns=("localhost",), end=NOW - HOUR / 2))
    return {"certificate": certificate, "key": key}


def early(pki: Pki) -> dict[str, Path]:
    certificate, key = pki.write("early", pki.leaf(dns=("localhost",), start=NOW + HOUR / 2))
    return {"certificate": certificate, "key": key}


def trust(path: Path) -> dict[str, Any]:
    return {"trust": (TrustAnchor("example.org", path),)}


# case → changes to good settings, the field at fault, words of the fault
FAULTS: dict[str, tuple[Callable[[Pki], dict[str, Any]], str, str]] = {
    "no file": (lambda p: {"certificate": p.directory / "none.pem"}, "certificate", "No such file"),
    "a directory": (lambda p: {"key": p.directory}, "key", "Is a directory"),
    "a key for a certificate": (lambda p: {"certificate": p.server[1]}, "certificate", "expected certificates in PEM"),
    "a certificate for a key": (lambda p: {"key": p.server[0]}, "key", "expected a private key in PEM"),
    "another's key": (lambda p: {"key": p.client[1]}, "key", "does not belong to the certificate"),
    "an encrypted key": (lambda p: {"key": encrypted(p)}, "key", "is encrypted"),
    "expired": (expired, "certificate", "expired at"),
    "not yet valid": (early, "certificate", "not valid before"),
    "no trust": (lambda p: {"trust": ()}, "trust", "expected a CA file"),
    "no CA file": (lambda p: trust(p.directory / "none.pem"), "trust[0].ca", "No such file"),
    "a leaf for a CA": (lambda p: trust(p.client[0]), "trust[0].ca", "is not one of a CA"),
    "an empty CA file": (lambda p: trust(file(p, b"")), "trust[0].ca", "expected certificates in PEM"),
    "no CRL": (lambda p: {"crl": p.ca}, "crl", "expected PEM blocks of type X509 CRL"),
    "a CRL and a certificate": (lambda p: {"crl": crl_and_more(p)}, "crl", "and no others"),
    "a delta CRL": (lambda p: {"crl": partial_crl(p)}, "crl", "critical extensions ['2.5.29.27']"),
    "a broken CRL": (
        lambda p: {"crl": file(p, b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")},
        "crl",
        "cannot be read",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("lenient", [False, True])
def test_a_fault_is_told_by_its_field(pki: Pki, case: str, lenient: bool) -> None:
    changes, name, words = FAULTS[case]
    with pytest.raises(TlsSettingsError) as caught:
        pki.server_tls(**changes(pki), unsafe_allow_missing_crl=lenient)
    assert [fault.field for fault in caught.value.faults] == [name]
    assert words in caught.value.faults[0].problem
    assert words in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)


def test_all_faults_are_told_at_once(pki: Pki) -> None:
    nothing = pki.directory / "none.pem"
    settings = pki.settings(certificate=nothing, key=nothing, crl=nothing, **trust(nothing))
    with pytest.raises(TlsSettingsError) as caught:
        ServerTls(settings, NOW.timestamp())
    assert [fault.field for fault in caught.value.faults] == ["certificate", "key", "trust[0].ca", "crl"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"key": None}, "key"),
        ({"certificate": None}, "certificate"),
        ({"server_name": ""}, "server_name"),
        ({"ca": Path("none.pem")}, "ca"),
    ],
)
def test_a_fault_of_the_upstreams_settings_is_told_by_its_field(pki: Pki, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(TlsSettingsError) as caught:
        pki.client_tls(**changes)
    assert [fault.field for fault in caught.value.faults] == [field]


def test_what_weakens_or_soon_refuses_is_a_warning(pki: Pki) -> None:
    pki.server[1].chmod(0o644)
    old_ca = pki.write("old", pki.authority("old", 4, end=NOW - HOUR / 2).own)[0]
    crl = pki.crl(pki.root.crl(start=NOW - 2 * HOUR, end=NOW - HOUR))
    trust = (TrustAnchor("example.org", pki.ca), TrustAnchor("example.com", old_ca))
    tls = pki.server_tls(trust=trust, crl=crl, unsafe_allow_missing_crl=True)
    assert [fault.field for fault in tls.warnings] == ["key", "trust[1].ca", "crl", "unsafe_allow_missing_crl"]
    assert [fault.field for fault in pki.client_tls(unsafe_allow_tls12=True).warnings] == ["unsafe_allow_tls12"]


def test_good_settings_warn_of_nothing(pki: Pki) -> None:
    tls = pki.server_tls(crl=pki.crl(pki.root.crl(start=NOW - HOUR, end=NOW + HOUR)))
    assert tls.warnings == ()
    assert tls.not_after == int((NOW + HOUR).timestamp())
    upstream = pki.client_tls()
    assert upstream.warnings == ()
    assert upstream.not_after == tls.not_after


def test_an_upstream_may_know_us_by_no_certificate(pki: Pki) -> None:
    tls = ClientTls(ClientTlsSettings(pki.ca, "localhost"), NOW.timestamp())
    assert tls.not_after is None


def test_our_intermediates_are_sent(pki: Pki) -> None:
    middle = pki.root.intermediate("middle", start=NOW - HOUR, end=NOW + HOUR)
    pair = pki.write("below", pki.leaf(authority=middle, uris=(SPIFFE,)))
    assert pair[0].read_bytes().count(b"BEGIN CERTIFICATE") == 2
    client, server = pki.client_tls(pair).channel(), pki.server_tls().channel(NOW.timestamp())
    flight = client.start()
    while flight:
        server.receive(flight)
        client.receive(server.pending())
        flight = client.pending()
    assert server.certificate is not None
    assert server.certificate.uris == (SPIFFE,)
