from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.certs.authority import SERVER, Authority
from sidecar.check.material import inspect
from sidecar.config.load import parse

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """ca.pem, other.pem, crl.pem of ca.pem, and server.pem with server-key.pem, good for a year."""
    authority = Authority.root("CA", start=NOW - YEAR, end=NOW + YEAR, chance=Random(1).randbytes)
    other = Authority.root("Other", start=NOW - YEAR, end=NOW + YEAR, chance=Random(2).randbytes)
    server = authority.issue("s", start=NOW, end=NOW + YEAR, dns=("localhost",), purposes=SERVER)
    (tmp_path / "ca.pem").write_bytes(authority.own.chain_pem())
    (tmp_path / "other.pem").write_bytes(other.own.chain_pem())
    (tmp_path / "server.pem").write_bytes(server.chain_pem())
    (tmp_path / "server-key.pem").touch(mode=0o600)
    (tmp_path / "server-key.pem").write_bytes(server.key_pem())
    crl = authority.crl(start=NOW - YEAR, end=NOW + timedelta(days=100))
    (tmp_path / "crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))
    return tmp_path


TLS = "certificate: server.pem, key: server-key.pem"


def told(files: Path, text: str, now: datetime = NOW) -> list[str]:
    report = inspect(parse(text, files, {}), now)
    lines = [*(f"fault {each}" for each in report.faults), *(f"warning {each}" for each in report.warnings)]
    return [line.replace(f"{files}/", "") for line in lines]


def test_what_is_sound(files: Path) -> None:
    assert told(files, f"listen: {{tls: {{{TLS}, client_ca: ca.pem, crl: crl.pem}}}}") == []
    assert told(files, "listen: {tls: none}") == []


@pytest.mark.parametrize(
    ("days", "line"),
    [
        (352, "warning listen.tls.certificate: expires soon, at 2027-01-01T00:00:00+00:00"),
        (366, "fault listen.tls.certificate: server.pem expired at 2027-01-01T00:00:00+00:00"),
        (-1, "fault listen.tls.certificate: server.pem is not valid before 2026-01-01T00:00:00+00:00"),
    ],
)
def test_certificates_end(files: Path, days: int, line: str) -> None:
    lines = told(files, f"listen: {{tls: {{{TLS}, client_certificates: none}}}}", NOW + timedelta(days=days))
    assert lines == [line]


def test_every_fault_of_both_sides(files: Path) -> None:
    (files / "junk.pem").write_text("junk")
    (files / "server-key.pem").chmod(0o644)
    text = f"""
listen: {{tls: {{{TLS}, client_ca: none.pem}}}}
upstream: {{tls: {{ca: junk.pem, certificate: other.pem, key: server-key.pem}}}}
authentication: {{mtls: {{trust_domains: [{{name: a, ca: server.pem}}, b]}}}}
"""
    lines = told(files, text)
    assert lines[0] == ("fault authentication.mtls.trust_domains[0].ca: certificate 1 of server.pem is not one of a CA")
    assert lines[1] == "fault listen.tls.client_ca: cannot read none.pem: No such file or directory"
    assert lines[2] == "fault upstream.tls.key: server-key.pem does not belong to the certificate in other.pem"
    assert lines[3] == "fault upstream.tls.ca: junk.pem cannot be read; expected certificates in PEM"
    assert len(lines) == 4


def test_a_key_that_everybody_reads(files: Path) -> None:
    (files / "server-key.pem").chmod(0o644)
    lines = told(files, f"listen: {{tls: {{{TLS}, client_certificates: none}}}}")
    assert lines == ["warning listen.tls.key: server-key.pem may be read by every user of this host"]


def test_every_ca_has_a_current_list(files: Path) -> None:
    text = f"""
listen: {{tls: {{{TLS}, client_ca: ca.pem, crl: crl.pem}}}}
authentication: {{mtls: {{trust_domains: [a, {{name: b, ca: other.pem}}]}}}}
"""
    assert told(files, text) == ["fault listen.tls.crl: expected a revocation list of the CA 'CN=Other', came none"]
    late = told(files, f"listen: {{tls: {{{TLS}, client_ca: ca.pem, crl: crl.pem}}}}", NOW + timedelta(days=101))
    assert [line for line in late if line.startswith("fault")] == [
        "fault listen.tls.crl: expected a current revocation list of the CA 'CN=CA', came one that ended at "
        "2026-04-11T00:00:00+00:00"
    ]


def test_a_missing_list_may_be_excused(files: Path) -> None:
    lines = told(
        files, f"listen: {{tls: {{{TLS}, client_ca: other.pem, crl: crl.pem, unsafe_allow_missing_crl: true}}}}"
    )
    assert [line.split(":")[0] for line in lines] == [
        "warning listen.tls.unsafe_allow_missing_crl",
        "warning listen.tls.crl",
    ]
