"""What an authority signs, read back by the library and by OpenSSL."""

from __future__ import annotations

import random
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from sidecar.certs.authority import KEY_BYTES, P256_ORDER, SERVER, Authority
from tests.parts import require

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def root() -> Authority:
    return Authority.root("root", start=NOW, end=NOW + DAY, chance=random.Random(1).randbytes)


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.ExtensionType | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def test_an_authority_may_sign_and_nothing_else(root: Authority) -> None:
    for authority, length in ((root, None), (root.intermediate("middle", start=NOW, end=NOW + DAY), 0)):
        certificate = authority.own.certificate
        assert extension(certificate, x509.BasicConstraints) == x509.BasicConstraints(ca=True, path_length=length)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)


def test_a_leaf_says_what_it_was_asked_to_say(root: Authority) -> None:
    leaf = root.issue("x", start=NOW, end=NOW + DAY, uris=("spiffe://a/b",), dns=("h",), addresses=("::1",))
    names = leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [str(name.value) for name in names.value] == ["spiffe://a/b", "h", "::1"]
    assert not names.critical
    assert extension(leaf.certificate, x509.BasicConstraints) == x509.BasicConstraints(ca=False, path_length=None)
    assert extension(leaf.certificate, x509.ExtendedKeyUsage) == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    assert leaf.certificate.not_valid_before_utc == NOW
    assert leaf.certificate.not_valid_after_utc == NOW + DAY


def test_what_is_not_asked_for_is_absent(root: Authority) -> None:
    bare = root.issue("x", start=NOW, end=NOW + DAY, purposes=()).certificate
    assert extension(bare, x509.SubjectAlternativeName) is None
    assert extension(bare, x509.ExtendedKeyUsage) is None
    unnamed = root.issue(start=NOW, end=NOW + DAY, uris=("spiffe://a/b",)).certificate
    assert unnamed.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_a_crl_names_what_it_revokes(root: Authority) -> None:
    bad, good = (root.issue("x", start=NOW, end=NOW + DAY).certificate for _ in range(2))
    crl = root.crl(bad, start=NOW, end=NOW + DAY)
    assert crl.get_revoked_certificate_by_serial_number(bad.serial_number) is not None
    assert crl.get_revoked_certificate_by_serial_number(good.serial_number) is None
    assert crl.is_signature_valid(root.own.key.public_key())


def test_a_key_lies_within_the_order_of_the_curve() -> None:
    """The ends of chance: all zeros and all ones."""
    for octet in (b"\0", b"\xff"):
        authority = Authority.root("x", start=NOW, end=NOW + DAY, chance=octet.__mul__)
        scalar = authority.own.key.private_numbers().private_value
        assert 1 <= scalar < P256_ORDER
        assert scalar == int.from_bytes(octet * KEY_BYTES, "big") % (P256_ORDER - 1) + 1


def test_openssl_verifies_chain_and_revocation(root: Authority, tmp_path: Path) -> None:
    require(shutil.which("openssl") is not None, "the openssl program is missing: apt-get install openssl")
    middle = root.intermediate("middle", start=NOW, end=NOW + DAY)
    leaf, revoked = (middle.issue("x", start=NOW, end=NOW + DAY, dns=("h",), purposes=SERVER) for _ in range(2))
    crls = (root.crl(start=NOW, end=NOW + DAY), middle.crl(revoked.certificate, start=NOW, end=NOW + DAY))
    files = {
        "root": root.own.chain_pem(),
        "middle": middle.own.chain_pem(),
        "crl": b"".join(crl.public_bytes(Encoding.PEM) for crl in crls),
        "leaf": leaf.chain_pem(),
        "revoked": revoked.chain_pem(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def verify(name: str, at: datetime) -> str:
        command = ["openssl", "verify", "-x509_strict", "-crl_check_all", "-attime", str(int(at.timestamp()))]
        command += ["-CAfile", "root", "-CRLfile", "crl", "-untrusted", "middle", name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.stdout + done.stderr

    assert verify("leaf", NOW + DAY / 2) == "leaf: OK\n"
    assert "certificate revoked" in verify("revoked", NOW + DAY / 2)
    assert "certificate has expired" in verify("leaf", NOW + 2 * DAY)
    assert "certificate is not yet valid" in verify("leaf", NOW - DAY)
