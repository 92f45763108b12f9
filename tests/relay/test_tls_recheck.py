"""A connection that is open when trust changes: asked again, by the chain that its handshake verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interceptors.facts import PeerCertificate
from sidecar.relay.tls import TrustAnchor
from sidecar.relay.tls_channel import TlsChannel
from sidecar.relay.tls_errors import TlsRefused
from tests.relay.tls_pair import HOUR, NOW, SPIFFE, Ended, Pki, shake

Change = Callable[["Scene"], dict[str, Any]]


class Scene(Pki):
    """Clients of a root and of an intermediate below it, connected while both were trusted."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.middle = self.root.intermediate("middle", start=NOW - HOUR, end=NOW + HOUR)
        self.direct, self.below = self.leaf(uris=(SPIFFE,)), self.leaf(authority=self.middle, uris=(SPIFFE,))
        self.stranger = self.write("stranger", self.authority("another root", 5).own)[0]
        self.both = directory / "both.pem"
        self.both.write_bytes(self.ca.read_bytes() + self.stranger.read_bytes())
        self.middle_file = self.write("middle", self.middle.own)[0]

    def connect(self, name: str) -> TlsChannel:
        pair = self.write("tried", getattr(self, name))
        client, server = self.raw_client(pair), self.server_tls().channel(NOW.timestamp())
        assert shake(client, server) == Ended(None, None)
        return server

    def crls(self, *revoked: Any, middle: tuple[Any, ...] | None = ()) -> dict[str, Any]:
        lists = [self.root.crl(*revoked, start=NOW - HOUR, end=NOW + HOUR)]
        if middle is not None:
            lists.append(self.middle.crl(*middle, start=NOW - HOUR, end=NOW + HOUR))
        return {"crl": self.crl(*lists)}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


def trust(*anchors: tuple[str, Path]) -> dict[str, Any]:
    return {"trust": tuple(TrustAnchor(domain, ca) for domain, ca in anchors)}


# case → new settings, then what refuses a client of the root, and one of the intermediate.
CASES: dict[str, tuple[Change, str, str]] = {
    "nothing has changed": (lambda s: {}, "", ""),
    "another CA beside it": (lambda s: trust(("example.org", s.both)), "", ""),
    "another CA in its place": (lambda s: trust(("example.org", s.stranger)), "tls.unknown_ca", "tls.unknown_ca"),
    "the intermediate alone": (lambda s: trust(("example.org", s.middle_file)), "tls.unknown_ca", ""),
    "CRLs that revoke nobody": (lambda s: s.crls(), "", ""),
    "the leaf revoked": (lambda s: s.crls(s.direct.certificate), "tls.revoked", ""),
    "the intermediate revoked": (lambda s: s.crls(s.middle.own.certificate), "", "tls.revoked"),
    "the intermediate revoked, and trusted by itself": (
        lambda s: s.crls(s.middle.own.certificate) | trust(("example.org", s.ca), ("example.org", s.middle_file)),
        "",
        "tls.revoked",
    ),
    "no CRL of the intermediate": (lambda s: s.crls(middle=None), "", "tls.no_crl"),
    "no CRL of it, which is allowed": (lambda s: s.crls(middle=None) | {"unsafe_allow_missing_crl": True}, "", ""),
    "the intermediate alone, with CRLs": (
        lambda s: s.crls() | trust(("example.org", s.middle_file)),
        "tls.unknown_ca",
        "tls.no_crl",
    ),
}


@pytest.mark.parametrize("name", ["direct", "below"])
@pytest.mark.parametrize(("change", "direct", "below"), CASES.values(), ids=CASES)
def test_an_open_connection(scene: Scene, change: Change, direct: str, below: str, name: str) -> None:
    channel, now = scene.connect(name), scene.server_tls(**change(scene))
    reason = direct if name == "direct" else below
    if not reason:
        fact = now.recheck(channel.chain(), NOW.timestamp())
        assert fact is not None
        assert fact.uris == (SPIFFE,)
        return
    with pytest.raises(TlsRefused) as caught:
        now.recheck(channel.chain(), NOW.timestamp())
    assert caught.value.reason == reason


def test_it_says_which_domain_vouches_now(scene: Scene) -> None:
    fact = scene.server_tls(**trust(("example.com", scene.ca))).recheck(
        scene.connect("direct").chain(), NOW.timestamp()
    )
    assert isinstance(fact, PeerCertificate)
    assert fact.trust_domains == {"example.com"}


def test_what_has_expired_is_refused(scene: Scene) -> None:
    with pytest.raises(TlsRefused) as caught:
        scene.server_tls().recheck(scene.connect("direct").chain(), (NOW + 2 * HOUR).timestamp())
    assert caught.value.reason == "tls.expired"


@pytest.mark.parametrize(("demand", "reason"), [("required", "tls.no_certificate"), ("optional", "")])
def test_a_peer_without_a_certificate(scene: Scene, demand: str, reason: str) -> None:
    tls = scene.server_tls(client_certificates=demand)
    if not reason:
        assert tls.recheck((), NOW.timestamp()) is None
        return
    with pytest.raises(TlsRefused) as caught:
        tls.recheck((), NOW.timestamp())
    assert caught.value.reason == reason


def test_a_handshake_that_began_before_the_change_ends_by_the_new_rules(scene: Scene) -> None:
    old = scene.server_tls()
    new = scene.server_tls(**scene.crls(scene.direct.certificate))
    pair = scene.write("tried", scene.direct)
    ended = shake(scene.raw_client(pair), old.channel(NOW.timestamp(), lambda: new))
    assert ended.server is not None
    assert ended.server.reason == "tls.revoked"
