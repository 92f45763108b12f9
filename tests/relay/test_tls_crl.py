"""Revocation: what a CRL refuses, strictly and with the setting whose name says that it is unsafe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from sidecar.certs.authority import Authority
from tests.relay.tls_pair import HOUR, NOW, SPIFFE, Pki, shake

Crls = list[x509.CertificateRevocationList]


class Scene(Pki):
    """A root, an intermediate below it, a client of each, and another CA that bears the root's name."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.middle = self.root.intermediate("middle", start=NOW - HOUR, end=NOW + HOUR)
        self.impostor = self.authority("root", 77)
        self.direct = self.leaf(uris=(SPIFFE,))
        self.below = self.leaf(authority=self.middle, uris=(SPIFFE,))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


def crl(authority: Authority, *revoked: x509.Certificate, start: int = -1, end: int = 1) -> Crls:
    """start, end: hours from now."""
    return [authority.crl(*revoked, start=NOW + start * HOUR, end=NOW + end * HOUR)]


# case → CRLs, then for a client of the root and one of the intermediate: what refuses it, strictly and leniently.
CASES: dict[str, tuple[Callable[[Scene], Crls], tuple[str, str], tuple[str, str]]] = {
    "nothing revoked": (lambda s: crl(s.root) + crl(s.middle), ("", ""), ("", "")),
    "the leaf": (
        lambda s: crl(s.root, s.direct.certificate) + crl(s.middle, s.below.certificate),
        ("tls.revoked", "tls.revoked"),
        ("tls.revoked", "tls.revoked"),
    ),
    "the intermediate": (
        lambda s: crl(s.root, s.middle.own.certificate) + crl(s.middle),
        ("", ""),
        ("tls.revoked", "tls.revoked"),
    ),
    "no CRL of the intermediate": (lambda s: crl(s.root), ("", ""), ("tls.no_crl", "")),
    "no CRL of the root": (lambda s: crl(s.middle), ("tls.no_crl", ""), ("tls.no_crl", "")),
    "expired": (
        lambda s: crl(s.root, start=-2, end=-1) + crl(s.middle),
        ("tls.crl_expired", "tls.crl_expired"),
        ("tls.crl_expired", "tls.crl_expired"),
    ),
    "expired, and the leaf": (
        lambda s: crl(s.root, s.direct.certificate, start=-2, end=-1),
        ("tls.crl_expired", "tls.revoked"),
        ("tls.no_crl", "tls.crl_expired"),
    ),
    "not yet valid": (
        lambda s: crl(s.root, start=1, end=2) + crl(s.middle),
        ("tls.bad_crl", "tls.crl_expired"),
        ("tls.bad_crl", "tls.crl_expired"),
    ),
    "an expired one beside a current one": (
        lambda s: crl(s.root, start=-2, end=-1) + crl(s.root) + crl(s.middle),
        ("", ""),
        ("", ""),
    ),
    "of another CA with the issuer's name": (
        lambda s: crl(s.impostor) + crl(s.middle),
        ("tls.no_crl", "tls.bad_crl"),
        ("tls.no_crl", "tls.bad_crl"),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("lenient", [False, True])
def test_what_a_crl_refuses(scene: Scene, case: str, lenient: bool) -> None:
    crls, *expected = CASES[case]
    tls = scene.server_tls(crl=scene.crl(*crls(scene)), unsafe_allow_missing_crl=lenient)
    for client, reasons in zip((scene.direct, scene.below), expected, strict=True):
        ended = shake(scene.raw_client(scene.write("case", client)), tls.channel(NOW.timestamp()))
        assert (ended.server.reason if ended.server else "") == reasons[lenient]


def test_without_a_crl_nothing_is_revoked(scene: Scene) -> None:
    for lenient in (False, True):
        tls = scene.server_tls(unsafe_allow_missing_crl=lenient)
        assert shake(scene.raw_client(scene.client), tls.channel(NOW.timestamp())).server is None


def test_a_new_context_refuses_what_a_new_crl_revokes_and_the_old_one_stands(scene: Scene) -> None:
    before = scene.server_tls(crl=scene.crl(*crl(scene.root)))
    after = scene.server_tls(crl=scene.crl(*crl(scene.root, scene.direct.certificate)))
    pair = scene.write("case", scene.direct)
    assert shake(scene.raw_client(pair), before.channel(NOW.timestamp())).server is None
    refused = shake(scene.raw_client(pair), after.channel(NOW.timestamp())).server
    assert refused is not None
    assert refused.reason == "tls.revoked"
