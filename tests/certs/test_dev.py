"""Development certificates: what they say, that they work, that nothing is overwritten."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sidecar.certs import dev
from sidecar.relay.tls import ClientTls, ClientTlsSettings, ServerTls, ServerTlsSettings, TrustAnchor
from tests.parts import require
from tests.relay.tls_pair import Ended, shake

NOW = datetime.now(UTC)
LEAVES = ("server", "alice", "mallory", "batch")
NAMES = sorted([f"{name}{end}.pem" for name in ("ca", *LEAVES) for end in ("", "-key")] + ["README.txt"])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def load(directory: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())


def alternative_names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_it_writes_what_it_says_it_wrote(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "certs"
    written = dev.create(directory, now=NOW)
    assert sorted(path.name for path in written) == names(directory) == NAMES
    assert directory.stat().st_mode & 0o777 == 0o700
    for path in written:
        assert path.stat().st_nlink == 1
        mode = path.stat().st_mode & 0o777
        assert mode == 0o600 if path.name.endswith("-key.pem") else not mode & 0o022
    readme = (directory / "README.txt").read_text("utf-8")
    assert "Never use them where anything is at stake" in readme
    assert all(name in readme for name in NAMES if name != "README.txt")


def test_the_certificates_say_who_they_are(tmp_path: Path) -> None:
    dev.create(tmp_path, now=NOW, trust_domain="test.example", days=3)
    assert {name: alternative_names(load(tmp_path, name)) for name in LEAVES} == {
        "server": ["localhost", "127.0.0.1", "::1"],
        "alice": ["spiffe://test.example/team/alice"],
        "mallory": ["spiffe://test.example/team/mallory"],
        "batch": ["batch.test.example"],
    }
    for name in ("ca", *LEAVES):
        certificate = load(tmp_path, name)
        assert certificate.not_valid_after_utc - NOW <= timedelta(days=3)
        assert certificate.not_valid_before_utc <= NOW
    for name, purpose in {"server": ExtendedKeyUsageOID.SERVER_AUTH, "alice": ExtendedKeyUsageOID.CLIENT_AUTH}.items():
        usage = load(tmp_path, name).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [purpose]


@pytest.mark.parametrize("client", LEAVES[1:])
def test_they_let_a_client_in(tmp_path: Path, client: str) -> None:
    dev.create(tmp_path, now=NOW)
    trust = (TrustAnchor("example.org", tmp_path / "ca.pem"),)
    server = ServerTls(
        ServerTlsSettings(tmp_path / "server.pem", tmp_path / "server-key.pem", trust), NOW.timestamp()
    ).channel(NOW.timestamp())
    settings = ClientTlsSettings(
        tmp_path / "ca.pem", "127.0.0.1", tmp_path / f"{client}.pem", tmp_path / f"{client}-key.pem"
    )
    assert shake(ClientTls(settings, NOW.timestamp()).channel(), server) == Ended(None, None)
    assert server.certificate is not None
    assert [*server.certificate.uris, *server.certificate.dns] == alternative_names(load(tmp_path, client))


@pytest.mark.parametrize("name", [*LEAVES])
def test_openssl_finds_nothing_wrong(tmp_path: Path, name: str) -> None:
    require(shutil.which("openssl") is not None, "the openssl program is missing: apt-get install openssl")
    dev.create(tmp_path, now=NOW)
    purpose = "sslserver" if name == "server" else "sslclient"
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", f"{name}.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}.pem: OK\n", "")


def test_nothing_is_overwritten_and_all_that_is_there_is_listed(tmp_path: Path) -> None:
    (tmp_path / "alice.pem").write_text("mine")
    (tmp_path / "server-key.pem").symlink_to("nowhere")
    with pytest.raises(dev.DevCertificatesError, match=r"already has alice\.pem, server-key\.pem; nothing was written"):
        dev.create(tmp_path, now=NOW)
    assert names(tmp_path) == ["alice.pem", "server-key.pem"]
    assert (tmp_path / "alice.pem").read_text() == "mine"


def test_a_file_that_appears_meanwhile_stays_and_the_rest_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        if target.name == "batch.pem":
            target.write_text("mine")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(dev.DevCertificatesError, match="File exists; nothing was written"):
        dev.create(tmp_path, now=NOW)
    assert names(tmp_path) == ["batch.pem"]
    assert (tmp_path / "batch.pem").read_text() == "mine"


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        if target.name == "batch.pem":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(KeyboardInterrupt):
        dev.create(tmp_path, now=NOW)
    assert names(tmp_path) == []


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    dev.create(tmp_path, now=NOW)
    assert names(tmp_path) == sorted([*NAMES, "notes.txt"])


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(dev.DevCertificatesError, match=os.strerror(errno.ENOTDIR)):
        dev.create(tmp_path / "file" / "certs", now=NOW)


@pytest.mark.parametrize("domain", ["", "Example.org", "a b", "a/b", "example.org\n", "é.org", "a" * 241])
def test_a_trust_domain_must_be_one(tmp_path: Path, domain: str) -> None:
    with pytest.raises(dev.DevCertificatesError, match="trust domain"):
        dev.create(tmp_path / "certs", now=NOW, trust_domain=domain)
    assert names(tmp_path) == []


def test_the_same_chance_makes_the_same_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        dev.create(tmp_path / name, now=NOW, chance=random.Random(7).randbytes)
    dev.create(tmp_path / "c", now=NOW)
    keys = [(tmp_path / name / "alice-key.pem").read_bytes() for name in "abc"]
    serials = [load(tmp_path / name, "alice").serial_number for name in "abc"]
    assert keys[0] == keys[1] != keys[2]
    assert serials[0] == serials[1] != serials[2]
