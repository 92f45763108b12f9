"""Who is let in, who is refused, and why: each refusal with the reason that is recorded."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from sidecar.certs.authority import CLIENT, SERVER, Issued
from sidecar.relay.tls import TrustAnchor
from sidecar.relay.tls_errors import TlsRefused
from tests.relay.tls_pair import HOUR, NOW, SPIFFE, Ended, Pki, connected, shake


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def attempt(pki: Pki, pair: tuple[Path, Path] | None, **changes: Any) -> Ended:
    return shake(pki.raw_client(pair), pki.server_tls(**changes).channel(NOW.timestamp()))


def below_intermediate(pki: Pki, *, send_it: bool) -> Issued:
    middle = pki.root.intermediate("middle", start=NOW - HOUR, end=NOW + HOUR)
    leaf = pki.leaf(authority=middle, uris=(SPIFFE,))
    return leaf if send_it else Issued(leaf.chain[:1], leaf.key)


def below_a_leaf(pki: Pki) -> Issued:
    """A client that signs for others, as if it were a CA."""
    client = pki.leaf("not a ca", uris=(SPIFFE,))
    forged = pki.authority("not a ca", 8)
    forged.own = client
    return pki.leaf(authority=forged, uris=(SPIFFE,))


def too_deep(pki: Pki) -> Issued:
    """An intermediate below one that may sign leaves only."""
    middle = pki.root.intermediate("middle", start=NOW - HOUR, end=NOW + HOUR)
    return pki.leaf(authority=middle.intermediate("deeper", start=NOW - HOUR, end=NOW + HOUR), uris=(SPIFFE,))


REFUSED: dict[str, tuple[Callable[[Pki], Issued], str]] = {
    "expired": (lambda pki: pki.leaf(uris=(SPIFFE,), end=NOW - HOUR / 2), "tls.expired"),
    "not yet valid": (lambda pki: pki.leaf(uris=(SPIFFE,), start=NOW + HOUR / 2), "tls.not_yet_valid"),
    "another CA": (lambda pki: pki.leaf(authority=pki.authority("other", 9), uris=(SPIFFE,)), "tls.unknown_ca"),
    "another CA of the same name": (
        lambda pki: pki.leaf(authority=pki.authority("root", 9), uris=(SPIFFE,)),
        "tls.unknown_ca",
    ),
    "self-signed": (lambda pki: pki.authority("self", 9).own, "tls.unknown_ca"),
    "for servers": (lambda pki: pki.leaf(uris=(SPIFFE,), purposes=SERVER), "tls.wrong_purpose"),
    "for any purpose": (
        lambda pki: pki.leaf(uris=(SPIFFE,), purposes=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)),
        "tls.wrong_purpose",
    ),
    "the CA's own": (lambda pki: pki.root.own, "tls.wrong_purpose"),
    "two URI names": (lambda pki: pki.leaf(uris=(SPIFFE, SPIFFE + "2")), "tls.two_uri_names"),
    "the same URI name twice": (lambda pki: pki.leaf(uris=(SPIFFE, SPIFFE)), "tls.two_uri_names"),
    "a line break in a URI name": (lambda pki: pki.leaf(uris=(SPIFFE + "\n",)), "tls.malformed_certificate"),
    "NUL in a DNS name": (lambda pki: pki.leaf(dns=("a.example.org\0.b",)), "tls.malformed_certificate"),
    "an empty URI name": (lambda pki: pki.leaf(uris=("",)), "tls.malformed_certificate"),
    "signed by a leaf": (below_a_leaf, "tls.bad_chain"),
    "too long a path": (too_deep, "tls.bad_chain"),
    "without its intermediate": (lambda pki: below_intermediate(pki, send_it=False), "tls.unknown_ca"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("asked", ["required", "optional"])
def test_a_bad_certificate_is_refused(pki: Pki, case: str, asked: str) -> None:
    issued, reason = REFUSED[case]
    ended = attempt(pki, pki.write("case", issued(pki)), client_certificates=asked)
    assert isinstance(ended.server, TlsRefused)
    assert ended.server.reason == reason


LET_IN: dict[str, tuple[Callable[[Pki], Issued], dict[str, Any]]] = {
    "a SPIFFE id": (lambda pki: pki.leaf(uris=(SPIFFE,)), {"uris": (SPIFFE,), "dns": (), "common_name": ""}),
    "a DNS name": (
        lambda pki: pki.leaf("x", dns=("a.example.org", "b.example.org")),
        {"uris": (), "dns": ("a.example.org", "b.example.org"), "common_name": "x"},
    ),
    "a common name only": (lambda pki: pki.leaf(SPIFFE), {"uris": (), "dns": (), "common_name": SPIFFE}),
    "no purpose said": (lambda pki: pki.leaf(uris=(SPIFFE,), purposes=()), {"uris": (SPIFFE,)}),
    "two purposes": (lambda pki: pki.leaf(uris=(SPIFFE,), purposes=SERVER + CLIENT), {"uris": (SPIFFE,)}),
    "an intermediate": (lambda pki: below_intermediate(pki, send_it=True), {"uris": (SPIFFE,)}),
}


@pytest.mark.parametrize("case", LET_IN)
def test_what_a_good_certificate_says(pki: Pki, case: str) -> None:
    make, says = LET_IN[case]
    issued = make(pki)
    client, server = pki.raw_client(pki.write("case", issued)), pki.server_tls().channel(NOW.timestamp())
    assert shake(client, server) == Ended(None, None)
    fact = server.certificate
    assert fact is not None
    assert {name: getattr(fact, name) for name in says} == says
    assert fact.trust_domains == {"example.org"}
    assert fact.not_after == issued.certificate.not_valid_after_utc.timestamp()
    assert fact.fingerprint == issued.certificate.fingerprint(hashes.SHA256()).hex()


def test_a_chain_ends_with_its_first_certificate_to_expire(pki: Pki) -> None:
    middle = pki.root.intermediate("middle", start=NOW - HOUR, end=NOW + HOUR / 2)
    pair = pki.write("case", pki.leaf(authority=middle, uris=(SPIFFE,)))
    server = pki.server_tls().channel(NOW.timestamp())
    shake(pki.raw_client(pair), server)
    assert server.certificate is not None
    assert server.certificate.not_after == middle.own.certificate.not_valid_after_utc.timestamp()


def test_a_missing_certificate_is_refused_where_one_is_required(pki: Pki) -> None:
    ended = attempt(pki, None)
    assert isinstance(ended.server, TlsRefused)
    assert ended.server.reason == "tls.no_certificate"
    assert ended.client is not None
    assert ended.client.reason == "tls.peer_refused"


def test_a_missing_certificate_is_no_identity_where_one_is_optional(pki: Pki) -> None:
    server = pki.server_tls(client_certificates="optional").channel(NOW.timestamp())
    assert shake(pki.raw_client(), server) == Ended(None, None)
    assert server.certificate is None


def test_a_certificate_is_not_asked_for_where_none_is_wanted(pki: Pki) -> None:
    server = pki.server_tls(client_certificates="none", trust=()).channel(NOW.timestamp())
    assert shake(pki.raw_client(pki.client), server) == Ended(None, None)
    assert server.certificate is None


def without_alpn(context: ssl.SSLContext) -> None:
    context.set_alpn_protocols([])


def http_1(context: ssl.SSLContext) -> None:
    context.set_alpn_protocols(["http/1.1", "h2c", "h"])


def tls_1_2(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("configure", "reason"), [(without_alpn, "tls.no_alpn"), (http_1, "tls.no_alpn"), (tls_1_2, "tls.version")]
)
def test_an_old_or_other_protocol_is_refused_before_the_server_says_anything(
    pki: Pki, configure: Callable[[ssl.SSLContext], None], reason: str
) -> None:
    client, server = pki.raw_client(pki.client, configure=configure), pki.server_tls().channel(NOW.timestamp())
    with pytest.raises(TlsRefused) as caught:
        server.receive(client.start())
    assert caught.value.reason == reason
    alert = server.pending()
    assert len(alert) == 7  # one plaintext alert and nothing else
    with pytest.raises(TlsRefused) as heard:
        client.receive(alert)
    assert heard.value.reason == reason
    assert server.receive(b"more") == b""


def test_a_client_that_must_guess_another_curve_gets_through(pki: Pki) -> None:
    """HelloRetryRequest: the first output of the server is no ServerHello yet."""
    tls = pki.server_tls()
    tls._context.set_ecdh_curve("secp384r1")
    assert shake(pki.raw_client(pki.client), tls.channel(NOW.timestamp())) == Ended(None, None)
    ended = shake(pki.raw_client(pki.client, configure=without_alpn), tls.channel(NOW.timestamp()))
    assert ended.server is not None
    assert ended.server.reason == "tls.no_alpn"


def raw_shake(client: ssl.SSLObject, into: ssl.MemoryBIO, out: ssl.MemoryBIO, server: Any) -> None:
    for _ in range(3):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            server.receive(out.read())
            into.write(server.pending())
    server.receive(out.read())
    into.write(server.send(b"hello"))
    assert client.read(5) == b"hello"


def test_an_earlier_session_gets_a_full_handshake_and_no_session_is_given(pki: Pki) -> None:
    """The session comes from another server with the same certificate, which does resume it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(pki.ca)
    context.load_cert_chain(*pki.client)
    context.set_alpn_protocols(["h2"])

    def connect(server: Any, session: ssl.SSLSession | None) -> ssl.SSLObject:
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(into, out, server_hostname="localhost", session=session)
        raw_shake(client, into, out, server)
        return client

    giving = pki.server_tls()
    giving._context.options &= ~ssl.OP_NO_TICKET
    giving._context.num_tickets = 2
    first = connect(giving.channel(NOW.timestamp()), None)
    assert first.session is not None
    assert first.session.has_ticket
    assert connect(giving.channel(NOW.timestamp()), first.session).session_reused
    ours = connect(pki.server_tls().channel(NOW.timestamp()), first.session)
    assert not ours.session_reused
    assert ours.session is None or not ours.session.has_ticket


def test_a_domain_is_vouched_for_by_its_own_ca_only(pki: Pki) -> None:
    other = pki.authority("other", 5)
    anchors = (
        TrustAnchor("example.org", pki.ca),
        TrustAnchor("example.com", pki.write("other", other.own)[0]),
        TrustAnchor("alias.example.org", pki.ca),
    )
    for authority, domains in ((pki.root, {"example.org", "alias.example.org"}), (other, {"example.com"})):
        pair = pki.write("case", pki.leaf(authority=authority, uris=(SPIFFE,)))
        server = pki.server_tls(trust=anchors).channel(NOW.timestamp())
        assert shake(pki.raw_client(pair), server) == Ended(None, None)
        assert server.certificate is not None
        assert server.certificate.uris == (SPIFFE,)
        assert server.certificate.trust_domains == domains


def test_an_intermediate_can_be_a_domains_anchor(pki: Pki) -> None:
    middle = pki.root.intermediate("middle", start=NOW - HOUR, end=NOW + HOUR)
    anchors = (TrustAnchor("team.example.org", pki.write("middle", middle.own)[0]),)
    server = pki.server_tls(trust=anchors).channel(NOW.timestamp())
    below = pki.write("case", pki.leaf(authority=middle, uris=(SPIFFE,)))
    assert shake(pki.raw_client(below), server) == Ended(None, None)
    ended = attempt(pki, pki.client, trust=anchors)
    assert ended.server is not None
    assert ended.server.reason == "tls.unknown_ca"


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"server_name": "other.example.org"}, "tls.wrong_name"), ({"server_name": "127.0.0.1"}, "tls.wrong_name")],
)
def test_a_server_of_another_name_is_refused(pki: Pki, change: dict[str, Any], reason: str) -> None:
    client = pki.client_tls(**change).channel()
    ended = shake(client, pki.server_tls().channel(NOW.timestamp()))
    assert isinstance(ended.client, TlsRefused)
    assert ended.client.reason == reason
    assert ended.server is not None
    assert ended.server.reason == "tls.peer_refused"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"name": "localhost"}, "tls.wrong_name"),  # the common name is no server's name
        ({"dns": ("localhost",), "purposes": CLIENT}, "tls.wrong_purpose"),
    ],
)
def test_a_servers_certificate_must_say_what_it_is(pki: Pki, options: dict[str, Any], reason: str) -> None:
    certificate, key = pki.write("case", pki.leaf(**{"purposes": SERVER} | options))
    server = pki.server_tls(certificate=certificate, key=key).channel(NOW.timestamp())
    ended = shake(pki.client_tls().channel(), server)
    assert ended.client is not None
    assert ended.client.reason == reason


def test_an_address_can_be_the_servers_name(pki: Pki) -> None:
    certificate, key = pki.write("case", pki.leaf(addresses=("127.0.0.1", "::1"), purposes=SERVER))
    tls = pki.server_tls(certificate=certificate, key=key)
    for name in ("127.0.0.1", "::1"):
        assert shake(pki.client_tls(server_name=name).channel(), tls.channel(NOW.timestamp())) == Ended(None, None)


@pytest.mark.parametrize("allow", [False, True])
def test_an_upstream_of_tls_1_2_is_refused_unless_allowed(pki: Pki, allow: bool) -> None:
    tls = pki.server_tls()
    tls._context.minimum_version = tls._context.maximum_version = ssl.TLSVersion.TLSv1_2
    client, server = pki.client_tls(unsafe_allow_tls12=allow).channel(), tls.channel(NOW.timestamp())
    ended = shake(client, server)
    assert (ended == Ended(None, None)) is allow
    if allow:
        assert server.receive(client.send(b"x" * 40000)) == b"x" * 40000
    else:
        assert ended.client is not None
        assert ended.client.reason == "tls.version"


def test_an_upstream_without_our_protocol_is_refused(pki: Pki) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pki.server)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    server, client = context.wrap_bio(into, out, server_side=True), pki.client_tls().channel()
    into.write(client.start())
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    with pytest.raises(TlsRefused) as caught:
        client.receive(out.read())
    assert caught.value.reason == "tls.no_alpn"
    into.write(client.pending())
    assert server.read(10) == b""  # a close_notify, and no plaintext before it
    assert not client.handshaken


def test_both_ends_know_each_other(pki: Pki) -> None:
    client, server = connected(pki)
    assert client.certificate is None
    assert server.certificate is not None
